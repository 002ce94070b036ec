"""A store with a tiny model and conversations; runs attempts of a job as the launcher would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as parquet

from deploy.local.testing import RealNats, RealObjects
from services.chassis.objects import ObjectStore, StoreAccess, upload_folder
from services.chassis.reporting import read_spool
from services.training.domain import Hyperparameters

ROOT = Path(__file__).parents[4]
Conversation = list[dict[str, str]]
Program = subprocess.Popen


def conversations(count: int) -> list[Conversation]:
    """Short and long questions with their answers."""
    return [
        [
            {"role": "user", "content": f"What is {n} + {n}? " + "Please answer. " * (n % 5)},
            {"role": "assistant", "content": f"The answer is {2 * n}." + " Call support." * (n % 3)},
        ]
        for n in range(count)
    ]


@dataclass
class Ended:
    """An attempt that is over."""

    code: int
    reports: list[dict[str, Any]]
    log: str

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of the reports of one kind."""
        return [report["body"] for report in self.reports if report["kind"] == kind]

    def values(self, name: str) -> dict[int, float]:
        """A metric by step."""
        points = [point for body in self.of("metrics") for point in body["points"]]
        return {point["step"]: point["values"][name] for point in points if name in point["values"]}


@dataclass
class World:
    """Real S3 and real worker programs."""

    folder: Path
    nats: RealNats
    objects: RealObjects
    model: Path
    attempts: int = 0
    stored: dict[str, Any] = field(default_factory=dict)

    @property
    def access(self) -> StoreAccess:
        """The store."""
        server = self.objects
        return StoreAccess(server.url, server.access_key, server.secret_key, server.region)

    def store(self, name: str, folder: Path) -> dict[str, Any]:
        """Uploads a folder once and says where it is."""
        if name not in self.stored:
            prefix = f"{self.folder.name}/{name}"
            manifest = upload_folder(ObjectStore(self.access), self.objects.bucket, prefix, folder)
            self.stored[name] = {
                "bucket": self.objects.bucket, "prefix": prefix, "manifest": manifest.to_json()
            }  # fmt: skip
        return dict(self.stored[name])

    def dataset(self, name: str, rows: Sequence[Conversation], **extra: Any) -> dict[str, Any]:
        """A data set in the canonical form; line numbers count from 1."""
        folder = self.folder / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        tools = [json.dumps(extra.pop("tools")) if n == 0 and "tools" in extra else None for n in range(len(rows))]
        columns = {
            "line": pa.array(range(1, len(rows) + 1), pa.int64()),
            "messages": pa.array([json.dumps(row) for row in rows], pa.string()),
            "tools": pa.array(tools, pa.string()),
        }
        parquet.write_table(pa.table(columns), folder / "data.parquet")
        return {
            **self.store(name, folder),
            "file": "data.parquet",
            "version_id": f"dsv-{name}",
            "max_samples": 0,
            "weight": 1.0,
            **extra,
        }

    def work(self, datasets: Sequence[dict[str, Any]], **changes: Any) -> dict[str, Any]:
        """The stage's part of a spec; names of hyperparameters among the changes go where they belong."""
        others = ("validation", "validation_ratio", "resume")
        stage = {name: changes.pop(name) for name in others if name in changes}
        values: dict[str, Any] = {
            "epochs": 2,
            "batch_size": 4,
            "learning_rate": 2e-3,
            "compute_type": "FP32",
            "cutoff_length": 256,
        }
        values |= {"lora_rank": 4, "lora_alpha": 8, "seed": 7, **changes}
        values["target_modules"] = tuple(values.get("target_modules", ()))
        return {
            "model": {
                **self.store("model", self.model),
                "version_id": "mv-tiny",
                "digest": "sha256:tiny",
                "chat_fingerprint": "",
            },
            "datasets": list(datasets),
            "hyperparameters": asdict(Hyperparameters(**values)),
            "output": {"bucket": self.objects.bucket, "prefix": ""},
            "validation_ratio": 0.0,
            **stage,
        }

    def spec(self, work: dict[str, Any]) -> Path:
        """The folder of the next attempt."""
        self.attempts += 1
        folder = self.folder / f"attempt-{self.attempts}"
        folder.mkdir(parents=True)
        work["output"]["prefix"] = f"{self.folder.name}/jobs/attempt-{self.attempts}"
        spec = {
            "format": 1, "stage": "training", "job_id": "ftjob-test", "project": "proj-1",
            "attempt": self.attempts, "token": self.attempts,
            "subject": "modelry.work.training.ftjob-test", "heartbeat_subject": "modelry.heartbeat.training.ftjob-test",
            "heartbeat_seconds": 5,
            "nats": {"url": self.nats.url, "user": "services", "password": self.nats.passwords["services"]},
            "stores": {"system": self.access.to_json(), "output": self.access.to_json()},
            "cache_dir": str(self.folder / "cache"), "trace": {}, "work": work,
        }  # fmt: skip
        (folder / "spec.json").write_text(json.dumps(spec))
        return folder

    def run(
        self,
        work: dict[str, Any],
        *,
        at_step: int = 0,
        happens: Callable[[Any], None] = Program.terminate,
        ranks: int = 1,
    ) -> Ended:
        """Runs an attempt to its end; after the metrics of a step something may happen to the program."""
        folder = self.spec(work)
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'sdk'}"}
        with (folder / "log").open("wb") as log:
            program = Program(
                [sys.executable, *launcher, "-m", "services.training.worker", str(folder)],
                cwd=ROOT, env=env, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                if at_step:
                    _wait(lambda: _seen(folder, at_step) or program.poll() is not None)
                    happens(program)
                code = program.wait(timeout=200)
            finally:
                program.kill()
        return Ended(code, read_spool(folder), (folder / "log").read_text())


def kill_second_rank(program: Any) -> None:
    """What happens when one rank dies."""
    for child in psutil.Process(program.pid).children(recursive=True):
        if child.environ().get("RANK") == "1":
            child.kill()
            return
    raise AssertionError("there is no second rank")


def resume_from(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What the next attempt is told of a reported checkpoint."""
    return {name: checkpoint[name] for name in ("bucket", "prefix", "manifest", "step")}


def _seen(folder: Path, step: int) -> bool:
    reports = read_spool(folder) if (folder / "spool").exists() else []
    points = [point for one in reports if one["kind"] == "metrics" for point in one["body"]["points"]]
    return any(point["step"] >= step for point in points)


def _wait(true: Callable[[], bool], seconds: float = 150) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
