"""Makes a home in which everything is under way, kills all that works in it at once, and packs it: see README.md.

.venv/bin/python -m tests.homes.make
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from tests.homes.archive import MADE_AT, pack, read_lists
from tests.stack import Stack, Walk

ROOT = Path(__file__).resolve().parents[2]
# A home holds its own path and the interpreter's, so both are neutral ones here. `code` is a link to the tree.
HOME = Path(MADE_AT)
PLACE = HOME.parent
PYTHON = PLACE / "code" / ".venv" / "bin" / "python"

SETTINGS = """\
# Two cores hold a replica and a worker.
launch_cpu_overcommit = 2.0
# The home is opened long after it was made: neither its events nor reports that wait become too old.
events_days = 36500
work_days = 36500
"""
INTERVAL = 100
TRAINING = {
    "epochs": 14,
    "batch_size": 1,
    "lora_rank": 4,
    "learning_rate": 1e-3,
    "cutoff_length": 64,
    "checkpoint_interval": INTERVAL,
    "checkpoints_kept": 2,
}
IMPORTED_ROWS = 200_000
MOST_BYTES = 2_000_000


def main() -> None:
    """Go to the neutral path; there make, kill, check, pack and clear away."""
    if Path(sys.executable) != PYTHON:
        PLACE.mkdir(mode=0o700)  # is one there already, remove it by hand
        (PLACE / "code").symlink_to(ROOT)
        os.chdir(PLACE / "code")
        os.execv(PYTHON, [str(PYTHON), "-m", "tests.homes.make"])
    HOME.mkdir(mode=0o700)
    (HOME / "modelry.toml").write_text(SETTINGS, "utf-8")
    stack = Stack(HOME)
    try:
        stack.up()
        expected = fill(stack)
    finally:
        kill_everything()
    check_state(expected)
    target = ROOT / "tests" / "homes" / f"home-{stack.state['version']}.tar.xz"
    pack(HOME, expected, target)
    check_packed(target)
    shutil.rmtree(PLACE)
    print(f"{target.name}: {target.stat().st_size} bytes")


def fill(stack: Stack) -> dict[str, Any]:
    """Make something of every kind, begin a job and an import, and kill. Returns what a reader must find."""
    client = stack.client
    client.set_price(item="training-minute", amount="3.25")
    client.create_project(project={"name": "second"})
    with tempfile.TemporaryDirectory() as folder:
        walk = Walk(stack, Path(folder))
        for step in (walk.model, walk.data, walk.tune, walk.publish, walk.evaluate, walk.deploy):
            step()
        rows = Path(folder) / "long.jsonl"
        lines = (json.dumps({"instruction": f"Say number {n}", "output": f"It is {n}."}) for n in range(IMPORTED_ROWS))
        rows.write_text("\n".join(lines) + "\n", "utf-8")
        file = client.upload(str(rows))
    settled = read_lists(stack.http, stack.admin_key)
    data = [{"ref": "numbers"}]
    job = client.create_job(job={"name": "under-way", "model": "tiny", "datasets": data, "hyperparameters": TRAINING})
    next(seen for seen in client.watch_job(job=job.id) if seen.progress.step > INTERVAL)
    version = client.create_dataset_version(dataset="long", dataset_version={"file_id": file.id}, create_dataset=True)
    next(seen for seen in client.watch_dataset_version(dataset="long", version=version.id) if seen.row_count)
    # Well between two checkpoints, so that the next attempt does some steps again.
    steps = (seen.progress.step for seen in client.watch_job(job=job.id))
    next(step for step in steps if 10 <= step % INTERVAL <= 80)
    kill_everything()
    return {
        "lists": settled,
        "job": job.id,
        "import": {"dataset": "long", "version": version.id, "rows": IMPORTED_ROWS},
        "deployment": {"id": walk.ids["deployment"], "name": "numbers", "key": walk.resources["key"].secret},
    }


def kill_everything() -> None:
    """Halt every process of the home, then kill them all, so that none sees another one's end: as a power cut does."""
    found = [process for process in psutil.process_iter() if is_ours(process)]
    for process in found:
        process.suspend()
    for process in found:
        process.kill()
    psutil.wait_procs(found, timeout=10)
    assert not any(is_ours(process) for process in psutil.process_iter())


def is_ours(process: psutil.Process) -> bool:
    """Whether a process works in the home."""
    try:
        named = str(PLACE) in " ".join(process.cmdline()) or process.environ().get("MODELRY_HOME") == str(HOME)
    except (psutil.Error, OSError):
        return False
    return named and process.pid != os.getpid()


def check_state(expected: dict[str, Any]) -> None:
    """The job trains, beyond a checkpoint; the import reads; every hold and reservation is confirmed.

    What is not confirmed falls after ten minutes, and would have fallen for whoever opens the home later.
    """
    job, version = expected["job"], expected["import"]["version"]
    [(state, checkpoint)] = ask("training", "SELECT state, checkpoint_step FROM jobs WHERE id = ?", job)
    [(step,)] = ask("training", "SELECT max(step) FROM job_metrics WHERE job_id = ?", job)
    assert (state, checkpoint >= INTERVAL, step > checkpoint) == ("RUNNING", True, True), (state, checkpoint, step)
    [(state,)] = ask("dataset", "SELECT state FROM dataset_versions WHERE id = ?", version)
    assert state == "IMPORTING", state
    assert not ask("dataset", "SELECT * FROM holds WHERE NOT confirmed")
    assert not ask("registry", "SELECT * FROM holds WHERE NOT confirmed")
    assert not ask("access", "SELECT * FROM reservations WHERE state = 'HELD'")
    print(f"job {job}: checkpoint of step {checkpoint}, metrics to step {step}")


def ask(service: str, query: str, *values: str) -> list[Any]:
    """Rows of a copy of a service's database; the file itself stays as the crash left it."""
    with tempfile.TemporaryDirectory() as folder:
        for path in (HOME / "data").glob(f"{service}.db*"):
            shutil.copy(path, folder)
        with closing(sqlite3.connect(Path(folder) / f"{service}.db")) as database:
            return database.execute(query, values).fetchall()


def check_packed(target: Path) -> None:
    """The archive is small and names neither the tree's path nor this machine."""
    assert target.stat().st_size < MOST_BYTES, target.stat().st_size
    words = [str(ROOT).encode(), str(Path.home()).encode() + b"/"]
    with tarfile.open(target, "r:xz") as archive:
        for entry in archive:
            content = archive.extractfile(entry)
            data = content.read() if content else b""
            assert not any(word in data for word in words), entry.name


if __name__ == "__main__":
    main()
