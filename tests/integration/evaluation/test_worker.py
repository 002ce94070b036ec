"""The evaluation worker as a program of its own: tiny model, adapter, real store, real vLLM."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from deploy.local.testing import RealNats, RealObjects
from services.chassis.engines import merged_name
from services.chassis.launch import PROGRAM_SPEC_FILE, read_result
from services.chassis.objects import Manifest, ObjectStore, StoreAccess, upload_folder
from services.chassis.reporting import read_spool
from services.evaluation.domain import Generation
from services.serving.model_work import ModelWork, WorkKind
from tests.integration.evaluation.world import write_benchmark, write_pairs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[3]


def files(manifest: Manifest, prefix: str, bucket: str) -> dict[str, Any]:
    return {"store": "system", "bucket": bucket, "prefix": prefix, "manifest": manifest.to_json()}


class Bench:
    """What the tests share: a store with models and data, and a way to run an attempt."""

    def __init__(self, root: Path, objects: RealObjects, nats: RealNats, tiny_models: tuple[Path, Path, Path]) -> None:
        self.access = StoreAccess(objects.url, objects.access_key, objects.secret_key, objects.region)
        self.store, self.bucket, self.root, self.nats = ObjectStore(self.access), objects.bucket, root, nats
        self.store.ensure_bucket(self.bucket)
        write_benchmark(root / "mmlu")
        write_pairs(root / "pairs")
        upload_folder(self.store, self.bucket, "eval-test/mmlu", root / "mmlu")
        pairs = upload_folder(self.store, self.bucket, "eval-test/pairs", root / "pairs")
        first, second, adapter = (
            upload_folder(self.store, self.bucket, f"eval-test/{path.name}", path) for path in tiny_models
        )
        self.targets = self._targets(first, second, adapter)
        self._write_tasks(pairs)

    def _targets(self, first: Manifest, second: Manifest, adapter: Manifest) -> list[dict[str, Any]]:
        base = files(first, "eval-test/first", self.bucket)
        return [
            {"label": "base", "role": "baseline", "version_id": "mv-1", "base": base, "adapter": None},
            {
                "label": "tuned",
                "role": "candidate",
                "version_id": "mv-2",
                "base": base,
                "adapter": files(adapter, "eval-test/adapter", self.bucket),
            },
            {
                "label": "other",
                "role": "candidate",
                "version_id": "mv-3",
                "base": files(second, "eval-test/second", self.bucket),
                "adapter": None,
            },
        ]

    def _write_tasks(self, pairs: Manifest) -> None:
        self.preset = {
            "name": "mmlu",
            "kind": "preset",
            "preset": "mmlu",
            "shots": 2,
            "split": "",
            "subjects": [],
            "max_samples": 0,
            "store": "system",
            "bucket": self.bucket,
            "prefix": "eval-test/mmlu",
        }
        self.custom = {
            "name": "desk",
            "kind": "custom",
            **files(pairs, "eval-test/pairs", self.bucket),
            "file": "data.parquet",
            "stopwords": [{"name": "en", "words": None}, {"name": "own", "words": ["desk"]}],
            "max_samples": 0,
            "system_prompt": "",
        }

    def spec(self, name: str, targets: list[Any], tasks: list[Any]) -> Path:
        folder = self.root / name
        folder.mkdir()
        spec = {
            "format": 1,
            "stage": "evaluation",
            "job_id": "eval-1",
            "project": "proj-1",
            "attempt": 1,
            "token": 1,
            "subject": "modelry.work.evaluation.eval-1",
            "heartbeat_subject": "modelry.heartbeat.evaluation.eval-1",
            "heartbeat_seconds": 1,
            "nats": {"url": self.nats.url, "user": "services", "password": self.nats.passwords["services"]},
            "stores": {"system": self.access.to_json()},
            "cache_dir": str(self.root / "cache"),
            "cpus": "0-1" if (os.cpu_count() or 1) > 1 else "0",
            "work": {
                "format": 1,
                "targets": targets,
                "tasks": tasks,
                "generation": asdict(Generation(max_tokens=12)),
                "kv_space_gb": 1,
                "output": {"bucket": self.bucket, "prefix": f"eval-test/out/{name}"},
            },
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        return folder

    def run(self, folder: Path) -> tuple[int, list[dict[str, Any]]]:
        argv = [sys.executable, "-m", "services.evaluation.worker", str(folder)]
        with (folder / "log").open("w") as log:
            done = subprocess.run(argv, cwd=ROOT, stderr=log, stdout=log, timeout=500, check=False)
        return done.returncode, list(read_spool(folder))


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory,
    s3_server: RealObjects,
    nats_server: RealNats,
    tiny_models: tuple[Path, Path, Path],
) -> Bench:
    return Bench(tmp_path_factory.mktemp("work"), s3_server, nats_server, tiny_models)


def rows(reports: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    return [row for report in reports if report["body"].get("part") == part for row in report["body"]["rows"]]


def test_presets_and_own_sets_on_base_adapter_and_another_base(bench: Bench) -> None:
    code, reports = bench.run(bench.spec("whole", bench.targets, [bench.preset, bench.custom]))
    log = (bench.root / "whole" / "log").read_text()
    assert code == 0, log[-3000:]
    assert [report["number"] for report in reports] == list(range(1, len(reports) + 1))
    assert reports[-1]["kind"] == "finished"
    scores = {(row["task"], row["target"], row["metric"], row["group"]): row for row in rows(reports, "scores")}
    for target in ("base", "tuned", "other"):
        assert scores["mmlu", target, "accuracy", "Average"]["sample_count"] == 36
        assert scores["mmlu", target, "accuracy", "Average"]["unparsed_count"] == 0
        assert scores["mmlu", target, "accuracy", "STEM"]["sample_count"] == 9
        assert scores["desk", target, "rouge_l_f", "Average"]["sample_count"] == 2
        assert scores["desk", target, "rouge_l_f", "Average"]["unscored_count"] == 1
    verdicts = {row["verdict"] for row in rows(reports, "comparisons")}
    assert "no significant difference" in verdicts
    samples = rows(reports, "samples")
    assert len(samples) == 3 * (36 + 3)
    names = {entry.key.rpartition("/")[2] for entry in bench.store.list(bench.bucket, "eval-test/out/whole/")}
    assert names == {"report.json", "report.html", "scores.csv", "samples.jsonl"}
    page = bench.store.get_bytes(bench.bucket, "eval-test/out/whole/report.html").decode()
    assert "<svg" in page
    assert "no significant difference" in page
    # The same once more, from the cache: the same words and the same numbers.
    code, again = bench.run(bench.spec("again", bench.targets, [bench.preset, bench.custom]))
    assert code == 0
    assert rows(again, "samples") == samples
    assert rows(again, "scores") == rows(reports, "scores")


def test_a_wrong_row_fails_the_evaluation_with_file_and_line(bench: Bench) -> None:
    bench.store.put_bytes(bench.bucket, "eval-test/bad/dev/law_dev.csv", b"q,1,2,3,4,A\n")
    bench.store.put_bytes(bench.bucket, "eval-test/bad/test/law_test.csv", b"q,1,2,3,4,A\nq,1,2,3,A\n")
    task = {**bench.preset, "shots": 1, "prefix": "eval-test/bad"}
    code, reports = bench.run(bench.spec("bad", bench.targets[:1], [task]))
    assert code == 1
    assert reports[-1]["kind"] == "failed"
    assert reports[-1]["body"]["kind"] == "USER"
    assert "test/law_test.csv, line 2: has 5 columns" in reports[-1]["body"]["message"]


def test_the_weights_evaluated_are_the_weights_served(bench: Bench, tiny_models: tuple[Path, Path, Path]) -> None:
    """A DoRA adapter is merged by both; evaluation's program and serving's give the same bytes under the same name."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(tiny_models[0])
    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, use_dora=True)
    get_peft_model(model, config).save_pretrained(bench.root / "dora")
    stored = upload_folder(bench.store, bench.bucket, "eval-test/dora", bench.root / "dora")
    tuned = {**bench.targets[1], "label": "dora", "adapter": files(stored, "eval-test/dora", bench.bucket)}
    code, reports = bench.run(bench.spec("merged", [bench.targets[0], tuned], [bench.custom]))
    assert code == 0, (bench.root / "merged" / "log").read_text()[-3000:]
    assert reports[-1]["kind"] == "finished"

    models = bench.root / "cache" / "models"
    base, adapter = models / Manifest.from_json(bench.targets[0]["base"]["manifest"]).digest, models / stored.digest
    evaluated = models / merged_name(base.name, adapter.name)
    served = bench.root / "served" / evaluated.name
    folder = bench.root / "merge"
    folder.mkdir()
    work = ModelWork(WorkKind.MERGE, base, served, adapter)
    (folder / PROGRAM_SPEC_FILE).write_text(json.dumps(work.to_json()))
    argv = [sys.executable, "-m", "services.serving.worker", str(folder)]
    subprocess.run(argv, cwd=ROOT, timeout=300, check=True)
    result = read_result(folder)
    assert result is not None and result.ok and not result.result["existed"]
    assert result.result["dtype"] == str(model.dtype).removeprefix("torch.")
    assert Manifest.of_folder(evaluated).digest == Manifest.of_folder(served).digest
