"""`python -m bench NAME [options]`: run one benchmark and print its figures."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any


def names() -> list[str]:
    """All benchmarks: the modules of this folder that have a `run`."""
    here = str(Path(__file__).parent)
    return sorted(module.name for module in pkgutil.iter_modules([here]) if not module.name.startswith("_"))


def main(arguments: list[str] | None = None) -> int:
    """Entry point; prints one JSON object with `--json`, a line a figure without.

    Returns: 1 when the benchmark has a `passed` of its own that says so, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    benchmarks = parser.add_subparsers(dest="name", required=True, metavar="|".join(names()))
    modules: dict[str, Any] = {}
    for name in names():
        module = importlib.import_module(f"bench.{name}")
        modules[name] = module
        chosen = benchmarks.add_parser(name, help=module.__doc__.splitlines()[0], description=module.__doc__)
        chosen.add_argument("--json", action="store_true", help="one JSON object on standard output")
        module.add_arguments(chosen)
    options = parser.parse_args(arguments)
    figures = modules[options.name].run(options)
    if options.json:
        print(json.dumps(figures))
    else:
        width = max(map(len, figures))
        for key, value in figures.items():
            print(f"{key:<{width}}  {value:.6g}" if isinstance(value, float) else f"{key:<{width}}  {value}")
    passed = getattr(modules[options.name], "passed", None)
    return 0 if passed is None or passed(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
