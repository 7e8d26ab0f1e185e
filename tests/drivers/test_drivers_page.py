"""What docs/drivers.md says is true: its tables are read, its driver runs, its settings are those of the code."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from drivers import registry
from drivers.line.settings import PointTable, SerialTable, TcpTable
from drivers.push.settings import PushTable
from shared.clock import ManualClock
from shared.errors import InstrumentUnavailable
from shared.tables import known_keys

PAGE = (Path(__file__).parents[2] / "docs" / "drivers.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    return PAGE.split(f"# {title}\n", 1)[1].split("\n#", 1)[0]


@pytest.fixture
def thermal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page's driver, installed as a package of its own with the page's entry point."""
    (tmp_path / "my_package.py").write_text(blocks("python")[0], encoding="utf-8")
    (entry,) = [tomllib.loads(block) for block in blocks("toml") if "entry-points" in block]
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    points = entry["project"]["entry-points"]["labrelay.drivers"]
    (info / "entry_points.txt").write_text(
        "[labrelay.drivers]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
    )
    monkeypatch.syspath_prepend(tmp_path)
    return registry.driver("thermal")


def test_the_driver_on_the_page_reads(thermal: Any, tmp_path: Path) -> None:
    (tmp_path / "zone0").mkdir()
    (tmp_path / "zone0" / "temp").write_text("48500\n")
    clock = ManualClock()
    device = thermal.device("processor", {"driver": "thermal", "zones": ["zone0"], "folder": str(tmp_path)})
    bus = thermal.open([device], clock)
    exchange = bus.read(device, (0,))
    assert exchange.samples.raw.tolist() == [48.5]
    assert exchange.samples.timestamp_us.tolist() == [clock.now_us()]
    assert device.points[0].sensor == "processor.zone0"
    (tmp_path / "zone0" / "temp").unlink()
    assert isinstance(bus.read(device, (0,)).errors[0], InstrumentUnavailable)
    bus.close()


def test_the_devices_on_the_page_are_understood() -> None:
    understood = []
    for block in blocks("toml"):
        for name, table in tomllib.loads(block).get("devices", {}).items():
            if table["driver"] != "thermal":
                understood.append(registry.driver(table["driver"]).device(name, table).name)
    assert understood == ["balance", "weather", "script"]


@pytest.mark.parametrize(
    ("title", "structures"),
    [
        ("Settings of a device", [SerialTable, TcpTable]),
        ("Settings of a point", [PointTable]),
        ("Push: any script is an instrument", [PushTable]),
    ],
)
def test_every_setting_is_on_the_page_and_no_other(title: str, structures: list[Any]) -> None:
    table = section(title).split("| key |")[1]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    written = {key.partition(".")[0] for row in rows for key in re.findall(r"`([^`]+)`", row)}
    assert written == {key for structure in structures for key in known_keys(structure)} - {"driver"}
