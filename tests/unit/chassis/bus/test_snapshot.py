"""Records of a bucket in a file: whole at every moment, whatever happens to the process or to the file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from services.chassis.bus.snapshot import Records, Snapshot

pytestmark = pytest.mark.unit


def saved(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


async def kept(path: Path, records: Records) -> None:
    """A process that kept these records and stopped."""
    snapshot = Snapshot(path, records.copy)
    snapshot.load()
    snapshot.changed()
    await snapshot.stop()


async def test_records_that_never_rest_leave_a_whole_file_at_every_moment(tmp_path: Path) -> None:
    path = tmp_path / "gateway" / "keys.json"
    records: Records = {f"k{number}": (0, {"state": "ACTIVE", "number": number}) for number in range(20_000)}
    snapshot = Snapshot(path, records.copy)
    snapshot.changed()
    names: set[str] = set()
    async with asyncio.timeout(60):
        for version in range(1, 1000):
            for number in range(0, 20_000, 100):
                records[f"k{number}"] = (version, {"state": "REVOKED", "number": number})
            snapshot.changed()
            await asyncio.sleep(0.02)
            names |= {one.name for one in path.parent.glob("*")}
            if path.exists():
                assert len(saved(path)) == 20_000
                if saved(path)["k0"][0] > 1:
                    break
    await snapshot.stop()
    assert saved(path)["k0"] == [version, {"state": "REVOKED", "number": 0}]
    assert {one.name for one in path.parent.iterdir()} == {"keys.json", "keys.json.before"}
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b'{"k": [2, {"state"', b"[]", b"\xff", b'{"k": 1}'])
async def test_a_broken_file_is_made_good_by_the_one_before(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    await kept(path, {"k": (1, {"n": 1})})
    await kept(path, {"k": (2, {"n": 2})})
    path.write_bytes(content)
    snapshot = Snapshot(path, lambda: {"k": (3, None)})
    assert snapshot.load() == {"k": (1, {"n": 1})}
    snapshot.changed()
    await snapshot.stop()
    assert saved(path) == {"k": [3, None]}
    assert saved(tmp_path / "keys.json.before") == {"k": [1, {"n": 1}]}, "the broken one does not take its place"


async def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "keys.json.abc.part").write_text("{")
    assert Snapshot(tmp_path / "keys.json", dict).load() == {}
    assert list(tmp_path.iterdir()) == []


async def test_a_save_that_failed_is_done_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "gateway"
    folder.write_text("a file stands where the folder should be")
    snapshot = Snapshot(folder / "keys.json", lambda: {"k": (1, None)})
    snapshot.changed()
    async with asyncio.timeout(20):
        while "cannot be written" not in caplog.text:
            await asyncio.sleep(0.01)
        folder.unlink()
        while not (folder / "keys.json").exists():
            await asyncio.sleep(0.01)
    await snapshot.stop()
    assert saved(folder / "keys.json") == {"k": [1, None]}
