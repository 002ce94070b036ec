"""What the launcher believes when it looks at a folder: files and locks only, no program is started here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.chassis.errors import Conflict, Invalid
from services.chassis.launch import (
    Claim,
    ProbeState,
    Record,
    Records,
    is_locked,
    lock_folder,
    probe,
    shim,
)
from services.chassis.launch.local import _whole_characters

pytestmark = pytest.mark.unit


@pytest.fixture
def record(tmp_path: Path) -> Record:
    folder = tmp_path / "work" / "a-1"
    folder.mkdir(parents=True)
    record = Record("a-1", folder, Claim(1, (0,)), "a-1/x", ("true",))
    records = Records(tmp_path)
    with records.allocation():
        records.write(record)
    return record


def _write(record: Record, name: str, content: dict[str, object]) -> None:
    shim.write_json(str(record.folder / name), content)


def test_a_record_is_read_back(record: Record, tmp_path: Path) -> None:
    assert Records(tmp_path).read("a-1") == record
    assert Records(tmp_path).all() == [record]


def test_a_record_without_its_folder_is_dropped(record: Record, tmp_path: Path) -> None:
    (record.folder / shim.CLAIM_FILE).unlink()
    assert Records(tmp_path).all() == []
    assert Records(tmp_path).read("a-1") is None


@pytest.mark.parametrize("id", ["", "../x", "a/b", ".hidden", "x" * 129])
def test_an_id_that_is_no_file_name_is_refused(id: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        Records(tmp_path).read(id)


def test_a_held_lock_is_seen_and_two_who_ask_do_not_see_each_other(record: Record) -> None:
    assert not is_locked(record.folder)
    held = lock_folder(record.folder)
    assert is_locked(record.folder)
    os.close(held)
    assert not is_locked(record.folder)


def test_a_folder_is_locked_once(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.chassis.launch.records._LOCK_SECONDS", 0.0)
    held = lock_folder(record.folder)
    with pytest.raises(Conflict):
        lock_folder(record.folder)
    os.close(held)


def test_a_claim_whose_lock_is_held_is_coming_up(record: Record) -> None:
    held = lock_folder(record.folder)
    assert probe(record).state is ProbeState.RUNNING
    os.close(held)
    assert probe(record).state is ProbeState.LOST


def test_a_live_pid_with_another_start_time_is_not_believed(record: Record) -> None:
    me = shim.identity(os.getpid())
    assert me is not None
    _write(record, shim.PROCESS_FILE, {"shim": {**me, "start": me["start"] - 1}, "program": None})
    assert probe(record).state is ProbeState.LOST


def test_a_pid_of_another_boot_is_not_believed(record: Record) -> None:
    me = shim.identity(os.getpid())
    assert me is not None
    _write(record, shim.PROCESS_FILE, {"shim": None, "program": {**me, "boot_id": "another"}})
    assert probe(record).state is ProbeState.LOST


def test_a_live_program_runs_and_a_written_exit_code_counts_only_after_it(record: Record) -> None:
    _write(record, shim.PROCESS_FILE, {"shim": None, "program": shim.identity(os.getpid())})
    _write(record, shim.EXIT_FILE, {"exit_code": 3, "error": ""})
    assert probe(record).state is ProbeState.RUNNING
    _write(record, shim.PROCESS_FILE, {"shim": None, "program": None})
    assert (probe(record).state, probe(record).exit_code) == (ProbeState.EXITED, 3)


def test_descendants_are_found_across_sessions() -> None:
    def stat(pid: int, parent: int, session: int) -> shim.ProcessStat:
        return shim.ProcessStat(pid, parent, session, session, 0, terminal=False, dead=False)

    table = {s.pid: s for s in (stat(10, 1, 10), stat(11, 10, 10), stat(12, 11, 12), stat(13, 12, 12), stat(20, 1, 10))}
    assert shim.descendants({10}, table) == {11, 12, 13}


@pytest.mark.parametrize(
    ("data", "kept"),
    [(b"ab", b"ab"), ("é".encode(), "é".encode()), ("a€".encode()[:-1], b"a"), ("😀".encode()[:3], b""), (b"", b"")],
)
def test_a_piece_of_log_ends_with_a_whole_character(data: bytes, kept: bytes) -> None:
    assert _whole_characters(data) == kept
