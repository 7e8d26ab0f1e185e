"""`labrelay verify`: says what was signed, and notices every change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hub.certificates.signing import CertificateKey, key_of, load_or_make
from labrelay import cli
from labrelay.verify import EXIT_INCOMPLETE, NotGenuine, verify
from shared.canonical import canonical_json
from shared.errors import ConfigurationError

TALLY = {"taken": 7, "stored": 5, "held": 0, "repeated": 1, "set_aside": {"future": 1}}
CERTIFICATE: dict[str, Any] = {
    "format": "labrelay certificate 1",
    "hub": "https://lab.example",
    "version": 3,
    "made_at": "2026-01-02T03:04:05.678901Z",
    "state": "final",
    "waits": [],
    "session": {
        "project_name": "Lab", "experiment_name": "E", "run_name": "Läufer 1", "ordinal_number": 2,
        "status": "succeeded", "started_at": "2026-01-02T03:00:00Z", "stopped_at": "2026-01-02T03:04:00Z",
    },
    "totals": {
        "agents": TALLY, "posts": TALLY, "missing": 4, "missing_uncounted": 1, "dropped_by_retention": 0,
        "unexplained_readings": 0, "unexplained_batches": 0,
    },
}  # fmt: skip
KEY = CertificateKey()


def signed(**changes: Any) -> bytes:
    return canonical_json(KEY.document(CERTIFICATE | changes))


def test_a_genuine_one_is_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, key = tmp_path / "certificate.json", tmp_path / "key.pem"
    file.write_text(json.dumps(json.loads(signed()), indent=4))
    key.write_text(KEY.public_pem)
    assert cli.main(["verify", str(file), "--key", str(key)]) == 0
    said = capsys.readouterr().out
    assert "7 taken = 5 stored (0 held) + 1 repeated + 1 set aside" in said
    assert "Läufer 1" in said
    assert "compare it" not in said
    key.write_text(json.dumps({"pem": KEY.public_pem, "key_id": KEY.id}))
    assert cli.main(["verify", str(file), "--key", str(key), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == CERTIFICATE
    assert cli.main(["verify", str(file)]) == 0
    assert "compare it" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes", [{"state": "waiting"}, {"totals": CERTIFICATE["totals"] | {"unexplained_readings": 1}}]
)
def test_one_that_is_not_complete_has_an_exit_status_of_its_own(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = tmp_path / "certificate.json"
    file.write_bytes(signed(**changes))
    assert cli.main(["verify", str(file)]) == EXIT_INCOMPLETE


def test_a_change_of_any_character_is_noticed() -> None:
    genuine = signed()
    verify(genuine)
    for place, byte in enumerate(genuine):
        other = b"1" if byte == ord("0") else b"0"
        with pytest.raises(NotGenuine):
            verify(genuine[:place] + other + genuine[place + 1 :])


def test_neither_another_key_nor_anything_unsigned_beside_it_passes(tmp_path: Path) -> None:
    other = CertificateKey()
    document = json.loads(signed())
    forged = other.document(CERTIFICATE)
    file, key = tmp_path / "certificate.json", tmp_path / "key.pem"
    file.write_text(json.dumps(forged))
    key.write_text(KEY.public_pem)
    assert cli.main(["verify", str(file), "--key", str(key)]) == 1
    mixed = {"certificate": CERTIFICATE, "signature": document["signature"] | {"public_key": other.public_key}}
    for wrong in (
        mixed,
        document | {"remark": "fine"},
        {"certificate": document["certificate"], "signature": document["signature"] | {"remark": ""}},
        {"certificate": CERTIFICATE, "signature": document["signature"] | {"algorithm": "none"}},
        {"certificate": CERTIFICATE},
        [],
    ):
        with pytest.raises(NotGenuine):
            verify(json.dumps(wrong).encode())
    with pytest.raises(NotGenuine):
        verify(signed().replace(b'{"certificate"', b'{"certificate":{},"certificate"', 1))


def test_what_cannot_be_read_is_said_plainly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "certificate.json"
    assert cli.main(["verify", str(file)]) == 1
    assert "cannot be read" in capsys.readouterr().err
    file.write_bytes(b"\xff\xfe")
    assert cli.main(["verify", str(file)]) == 1
    file.write_bytes(signed())
    wrong = tmp_path / "key.pem"
    wrong.write_text("{}")
    assert cli.main(["verify", str(file), "--key", str(wrong)]) == cli.EXIT_CONFIGURATION


def test_the_hub_makes_its_key_once_for_its_owner_alone(tmp_path: Path) -> None:
    made = key_of(None, tmp_path / "secret-key")
    path = tmp_path / "certificate-key.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_make(path).id == made.id == key_of(path, None).id
    assert key_of(None, None).id != made.id
    path.write_text("nothing")
    with pytest.raises(ConfigurationError):
        load_or_make(path)
