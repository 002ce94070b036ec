"""The contract of the evaluation worker: what the service writes the worker reads, in this version and before."""

from __future__ import annotations

import json

import pytest

from services.chassis.errors import Invalid
from services.chassis.objects import Manifest
from services.evaluation.domain import Generation
from services.evaluation.work_spec import CustomTask, EvaluationWork, Files, Output, PresetTask, Stopwords, Target

pytestmark = pytest.mark.unit

MANIFEST = Manifest.from_json({"files": [{"path": "a", "size": 1, "sha256": "0" * 64}]})
FILES = Files("system", "b", "p", MANIFEST)
LISTS = (Stopwords("en", None), Stopwords("own", ("desk",)))
WORK = EvaluationWork(
    targets=(Target("base", "baseline", "mv-1", FILES, None), Target("tuned", "candidate", "mv-2", FILES, FILES)),
    tasks=(
        PresetTask("mmlu", "mmlu", None, "", ("law",), 0, "team/b", "b", "p"),
        CustomTask("system", "b", "p", MANIFEST, "desk", "data.parquet", LISTS, 5, "Be brief."),
    ),
    generation=Generation(stop=("END",)),
    output=Output("b", "out"),
    kv_space_gb=1,
)


def test_what_the_service_writes_the_worker_reads() -> None:
    assert EvaluationWork.from_json(json.loads(json.dumps(WORK.to_json()))) == WORK


def test_a_spec_of_the_version_before_is_read() -> None:
    """It has manifests as text."""
    old = json.loads(json.dumps(WORK.to_json()))
    for target in old["targets"]:
        target["base"]["manifest"] = json.dumps(target["base"]["manifest"])
    old["tasks"][1]["manifest"] = json.dumps(old["tasks"][1]["manifest"])
    assert EvaluationWork.from_json(old) == WORK


def test_a_spec_of_a_later_version_is_refused() -> None:
    with pytest.raises(Invalid, match="format 2"):
        EvaluationWork.from_json({**WORK.to_json(), "format": 2})
