"""The import program: bounded memory, and it never outlives its service."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local.testing import RealObjects
from services.chassis.objects import ObjectStore, StoreAccess

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

    def start(self, key: str, **place: Any) -> subprocess.Popen[bytes]:
        spec = {
            "format": 1,
            "folder": str(self.folder),
            "source": {
                "access": self.access.to_json(),
                "bucket": self.bucket,
                "prefix": key,
                "name": "",
                **place,
            },
            "options": {"format": "", "columns": {}, "max_bad_rows": 0},
            "output": {"access": self.access.to_json(), "bucket": self.bucket, "prefix": "out"},
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "services.dataset.worker"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(spec).encode() + b"\n")
        process.stdin.flush()
        return process


def last_word(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What the program says at its end; its stdin stays open until then."""
    assert process.stdout is not None
    last: dict[str, Any] = json.loads(process.stdout.readlines()[-1])
    process.wait(10)
    return last


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
    assert process.stdout is not None
    for line in process.stdout:
        last = json.loads(line)
        most = max(most, psutil.Process(process.pid).memory_info().rss)
        if last["kind"] != "progress":
            break
    seconds = time.perf_counter() - started
    process.kill()
    process.wait()
    assert (last["kind"], last["rows"], last["bytes_read"]) == ("finished", count, path.stat().st_size)
    assert last["statistics"]["duplicate_row_count"] == count - 1
    print(f"{count} rows, {path.stat().st_size / seconds / 1e6:.0f} MB/s, {most / MEGABYTE:.0f} MB resident")
    assert most < 400 * MEGABYTE


def test_the_program_ends_when_its_service_does(program: Program) -> None:
    program.store.put_bytes(program.bucket, "big.jsonl", b'{"instruction": "a", "output": "b"}\n' * 600_000)
    process = program.start("big.jsonl")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["kind"] == "progress"
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 3


def test_a_store_that_does_not_answer_is_no_fault_of_the_data(program: Program) -> None:
    access = {**program.access.to_json(), "endpoint": "http://127.0.0.1:9"}
    process = program.start("x.jsonl", access=access)
    last = last_word(process)
    assert (last["kind"], last["reason"]) == ("failed", "STORE_UNREACHABLE")
    assert program.access.secret_key not in json.dumps(last)


def test_an_object_that_is_gone_is_named(program: Program) -> None:
    process = program.start("gone.jsonl")
    last = last_word(process)
    assert (last["kind"], last["reason"]) == ("refused", "OBJECT_NOT_FOUND")
    assert "gone.jsonl" in last["message"]
