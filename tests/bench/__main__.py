"""What things cost on this machine: `python -m tests.bench [PART ...]`, all parts by default (`make bench`).

Ends with 1 when a floor is missed (tests/bench/floors.py). A part that could not be measured misses all its floors.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from tests.bench.floors import FLOORS, Floor

PARTS = {
    "records": "reads, updates and creates of records beside MLflow's tracking server (installs it in .bench/ once)",
    "gateway": "CPU of the gateway for an inference request beside a bare aiohttp pass-through",
    "startup": "seconds until an idle stack is ready, and its memory",
    "serving": "a replica's start, the gateway beside a busy engine, the attachment of an adapter",
    "training": "tokens a second beside the plain transformers Trainer (MODELRY_BENCH_ALPACA names rows of your own)",
}
console = Console(width=150)


def main() -> int:
    """Measure the chosen parts and print one table. 1: a floor was missed."""
    described = "\n".join(f"  {name:10}{words}" for name, words in PARTS.items())
    parser = argparse.ArgumentParser(
        "python -m tests.bench",
        description=f"{__doc__}\nparts:\n{described}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to measure; default: all")
    chosen = parser.parse_args().parts or list(PARTS)
    if unknown := [part for part in chosen if part not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # each part then stops what it started
    console.print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the start")
    table = Table("part", "figure", "measured", "floor", "goal", "verdict", title="Modelry on this machine")
    missed: list[str] = []
    for part in chosen:
        missed += _add_rows(table, part, _measure(part))
    console.print(table)
    if missed:
        console.print(f"Missed ({len(missed)}): {'; '.join(missed)}.")
        return 1
    console.print("All floors hold.")
    return 0


def _measure(part: str) -> Mapping[str, float]:
    """The figures of a part; none where it could not run, which is said."""
    console.print(f"measuring {part} ...")
    try:
        figures: Mapping[str, float] = importlib.import_module(f"tests.bench.{part}").run()
    except Exception as error:  # an edge: the other parts are measured all the same
        traceback.print_exc()
        console.print(f"{part} could not be measured: {error}", markup=False)
        return {}
    return figures


def _add_rows(table: Table, part: str, figures: Mapping[str, float]) -> list[str]:
    """Add a row for each floor of a part, then for its other figures. Returns: the figures that missed."""
    missed: list[str] = []
    for floor in FLOORS[part]:
        measured = figures.get(floor.figure)
        good = measured is not None and floor.holds(measured)
        if not good:
            missed.append(f"{floor.figure} ({part})")
        shown = "not measured" if measured is None else _number(measured)
        table.add_row(part, floor.figure, shown, _limit(floor), _number(floor.goal), "holds" if good else "MISSED")
    held = {floor.figure for floor in FLOORS[part]}
    for figure, measured in figures.items():
        if figure not in held:
            table.add_row(part, figure, _number(measured), "", "", "")
    table.add_section()
    return missed


def _limit(floor: Floor) -> str:
    return f"{'at most' if floor.at_most else 'at least'} {_number(floor.limit)}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
