"""The supervisor on a disk that is really full: it forgets no child, and goes on when there is room."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.child import Backoff, Child
from deploy.local.files import write_private
from deploy.local.stack import Program

pytestmark = pytest.mark.integration


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of one MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> Path:
    """Take all that is left."""
    with contextlib.suppress(OSError), (disk / "filling").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return disk / "filling"


async def always() -> bool:
    return True


async def test_a_full_disk_makes_the_supervisor_forget_no_child(small_disk: Path) -> None:
    program = Program("toy", (sys.executable, "-c", "import time; time.sleep(600)"), {}, always, 0, "")
    state = small_disk / "state.json"
    child = Child(program, small_disk / "toy.log", lambda: write_private(state, "x" * 5000), Backoff(0.01, 0.05))
    filling = fill(small_disk)
    child.start()
    try:
        async with asyncio.timeout(20):
            await child.ready.wait()
            first = child.identity
            assert first is not None
            os.kill(first["pid"], 9)
            while child.identity in (None, first):
                await asyncio.sleep(0.01)
            assert not state.exists()
            filling.unlink()
            os.kill(child.identity["pid"], 9)
            while not state.exists():
                await asyncio.sleep(0.01)
    finally:
        await child.stop()
    assert child.identity is None
