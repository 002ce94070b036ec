"""The import program: bounded memory, and every end is written down."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from deploy.local.testing import RealObjects
from services.chassis.launch import PROGRESS_FILE, RESULT_FILE, ProgramResult, read_result
from services.chassis.objects import ObjectStore, StoreAccess
from services.dataset.import_work import ImportCounts, ImportReport, ImportWork
from services.dataset.object_sources import ObjectSource

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
MEGABYTE = 1 << 20


class Program:
    """The program on a bucket of its own."""

    def __init__(self, server: RealObjects, folder: Path) -> None:
        self.access = StoreAccess(server.url, server.access_key, server.secret_key, server.region)
        self.store = ObjectStore(self.access)
        self.bucket = f"worker-{secrets.token_hex(4)}"
        self.store.ensure_bucket(self.bucket)
        self.folder = folder / "import"

    def start(self, key: str, access: StoreAccess | None = None) -> subprocess.Popen[bytes]:
        place = ObjectSource(access or self.access, self.bucket, key)
        work = ImportWork(place, "", {}, 0, self.access, self.bucket, "out")
        self.folder.mkdir()
        (self.folder / "spec.json").write_text(json.dumps(work.to_json()))
        return subprocess.Popen([sys.executable, "-m", "services.dataset.worker", str(self.folder)], cwd=ROOT)

    def result(self, process: subprocess.Popen[bytes]) -> ProgramResult:
        """What the program says at its end."""
        process.wait(60)
        result = read_result(self.folder)
        assert result is not None
        return result


@pytest.fixture
def program(s3_server: RealObjects, tmp_path: Path) -> Program:
    return Program(s3_server, tmp_path)


def test_a_hundred_megabytes_in_one_line_stay_in_bounded_memory(program: Program, tmp_path: Path) -> None:
    row = json.dumps({"instruction": "q " * 400, "output": "a " * 400})
    count = 100 * MEGABYTE // (len(row) + 1)
    path = tmp_path / "line.json"
    with path.open("w") as file:
        file.write("[" + ",".join([row] * count) + "]")
    program.store.upload_file(path, program.bucket, "line.json")
    process = program.start("line.json")
    most = 0
    started = time.perf_counter()
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            most = max(most, psutil.Process(process.pid).memory_info().rss)
        time.sleep(0.02)
    seconds = time.perf_counter() - started
    result = program.result(process)
    report = ImportReport.from_json(result.result)
    assert (result.ok, report.counts.row_count, report.counts.bytes_read) == (True, count, path.stat().st_size)
    assert report.statistics["duplicate_row_count"] == count - 1
    progress = ImportCounts(**json.loads((program.folder / PROGRESS_FILE).read_text()))
    assert 0 < progress.row_count <= count and progress.bytes_total == path.stat().st_size
    assert {entry.name for entry in program.folder.iterdir()} == {"spec.json", RESULT_FILE, PROGRESS_FILE}
    print(f"{count} rows, {path.stat().st_size / seconds / 1e6:.0f} MB/s, {most / MEGABYTE:.0f} MB resident")
    assert most < 400 * MEGABYTE


def test_a_store_that_does_not_answer_is_no_fault_of_the_data(program: Program) -> None:
    away = replace(program.access, endpoint="http://127.0.0.1:9")
    result = program.result(program.start("x.jsonl", away))
    assert (result.ok, result.user, result.reason) == (False, False, "STORE_UNREACHABLE")
    assert program.access.secret_key not in json.dumps(result.to_json())


def test_an_object_that_is_gone_is_named(program: Program) -> None:
    result = program.result(program.start("gone.jsonl"))
    assert (result.ok, result.user, result.reason) == (False, True, "OBJECT_NOT_FOUND")
    assert "gone.jsonl" in result.message


def test_a_spec_of_another_format_is_refused(program: Program) -> None:
    program.folder.mkdir()
    (program.folder / "spec.json").write_text('{"format": 1}')
    process = subprocess.Popen([sys.executable, "-m", "services.dataset.worker", str(program.folder)], cwd=ROOT)
    assert "format 1" in program.result(process).message
