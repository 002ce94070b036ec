"""`python -m tests.chaos.random --kills 100 --seed 7`: an installation at work while its processes are killed.

Imports, jobs, records, keys and inference go on all the time; processes are killed with -9 at random. Afterwards the
promises are checked and figures are printed. Ends with 1 when a promise was broken. `make chaos` runs it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.random.kills import Killer
from tests.chaos.random.load import Load
from tests.chaos.random.promises import broken_promises, left_processes
from tests.stack import Stack, Walk

# Short windows, as in all chaos tests; and a replica may run beside a job on a machine with two cores.
SETTINGS = "lease_seconds = 4.0\nheartbeat_seconds = 1.0\nlaunch_cpu_overcommit = 3.0\nunhealthy_seconds = 20.0\n"


def main() -> int:
    """Run it; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.random", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how often a process is killed or held up")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed and when; 0 takes one from the clock")
    parser.add_argument("--quiet-seconds", type=float, default=600.0, help="longest wait for the end of all work")
    parser.add_argument("--no-replica", action="store_true", help="without a deployment: little memory is enough")
    arguments = parser.parse_args()
    seed = arguments.seed or time.time_ns() % 1_000_000
    print(f"seed {seed}, {arguments.kills} kills", flush=True)
    with tempfile.TemporaryDirectory(prefix="modelry-chaos-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        (home / "modelry.toml").write_text(SETTINGS, "utf-8")
        broken, figures = run(Stack(home), Path(folder), seed, arguments)
    print(json.dumps({"seed": seed, **figures}, indent=2))
    for promise in broken:
        print(f"BROKEN: {promise}", file=sys.stderr)
    return 1 if broken else 0


def run(stack: Stack, folder: Path, seed: int, arguments: argparse.Namespace) -> tuple[list[str], dict[str, object]]:
    """Start, work, kill, wait, check, stop. Returns: broken promises, figures."""
    try:
        stack.up()
        walk = Walk(stack, folder / "tiny")
        (folder / "tiny").mkdir()
        walk.model()
        walk.data()
        load = Load(stack, folder, seed, replica=not arguments.no_replica)
        killer = Killer(stack, random.Random(seed))
        with load:
            killer.run(arguments.kills)
        broken = broken_promises(stack, load.ledger, arguments.quiet_seconds)
        figures: dict[str, object] = {"kills": killer.counts, "calls": load.ledger.figures()}
    finally:
        stack.down()
    return broken + [f"{line} is left after down" for line in left_processes(stack.home)], figures


if __name__ == "__main__":
    raise SystemExit(main())
