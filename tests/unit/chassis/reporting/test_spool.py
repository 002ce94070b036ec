"""The spool: numbers without a gap, whole lines only, and a cursor that a crash may set back but never forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.chassis.reporting import Spool, read_spool
from services.chassis.reporting import spool as module

pytestmark = pytest.mark.unit


def numbers(reports: list[dict[str, Any]]) -> list[int]:
    return [report["number"] for report in reports]


def test_reports_are_numbered_from_one_and_read_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert [spool.append({"kind": kind}) for kind in "äbc"] == [1, 2, 3]
    assert read_spool(tmp_path) == [{"kind": k, "number": n} for n, k in enumerate("äbc", 1)]
    assert numbers(read_spool(tmp_path, after=2)) == [3]
    assert numbers(read_spool(tmp_path, limit=2)) == [1, 2]
    assert read_spool(tmp_path, after=3) == []


def test_a_folder_without_a_spool_has_no_reports(tmp_path: Path) -> None:
    assert read_spool(tmp_path) == []
    assert read_spool(tmp_path / "nothing") == []


def test_many_reports_span_files_and_any_number_can_be_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SEGMENT_BYTES", 100)
    spool = Spool(tmp_path)
    for number in range(1, 51):
        assert spool.append({"kind": "x" * (number % 7)}) == number
    assert len(list((tmp_path / "spool").glob("*.jsonl"))) > 5
    for after in range(51):
        assert numbers(read_spool(tmp_path, after)) == list(range(after + 1, 51))
    spool.close()
    again = Spool(tmp_path)
    assert again.append({}) == 51
    assert numbers(read_spool(tmp_path)) == list(range(1, 52))


@pytest.mark.parametrize("torn", [b'{"kind":"x","num', b'{"kind":"x","number":3}'])
def test_a_line_that_was_not_finished_is_no_report(tmp_path: Path, torn: bytes) -> None:
    spool = Spool(tmp_path)
    spool.append({})
    spool.append({})
    spool.close()
    path = tmp_path / "spool" / "0000000001.jsonl"
    path.write_bytes(path.read_bytes() + torn)
    assert numbers(read_spool(tmp_path)) == [1, 2]
    again = Spool(tmp_path)
    assert again.append({"kind": "real"}) == 3
    assert read_spool(tmp_path, 2) == [{"kind": "real", "number": 3}]


def test_a_file_whose_first_line_was_torn_keeps_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SEGMENT_BYTES", 1)
    spool = Spool(tmp_path)
    spool.append({})
    spool.append({})
    spool.close()
    (tmp_path / "spool" / "0000000002.jsonl").write_bytes(b'{"numb')
    again = Spool(tmp_path)
    assert again.last == 1
    assert again.append({}) == 2
    assert numbers(read_spool(tmp_path)) == [1, 2]


def test_what_was_sent_is_remembered(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for _ in range(3):
        spool.append({})
    spool.mark_sent(2)
    assert numbers(spool.unsent()) == [3]
    spool.close()
    again = Spool(tmp_path)
    assert (again.last, again.sent) == (3, 2)
    assert numbers(again.unsent()) == [3]


def test_a_cursor_beyond_the_last_report_is_not_believed(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append({})
    spool.mark_sent(9)
    spool.close()
    assert Spool(tmp_path).sent == 1


def test_a_full_disk_stores_nothing_and_breaks_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    spool.append({"kind": "first"})
    real = module._write_all

    def half(descriptor: int, data: bytes) -> None:
        real(descriptor, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_all", half)
    with pytest.raises(OSError, match="No space"):
        spool.append({"kind": "second"})
    monkeypatch.setattr(module, "_write_all", real)
    assert spool.append({"kind": "third"}) == 2
    assert [report["kind"] for report in read_spool(tmp_path)] == ["first", "third"]
