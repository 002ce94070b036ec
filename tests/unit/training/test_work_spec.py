"""The contract of the training worker: what the service writes is what the worker reads, in this version and before."""

from __future__ import annotations

import json

import pytest

from services.chassis.errors import Invalid
from services.chassis.objects import Manifest
from services.training.domain import Hyperparameters
from services.training.work_spec import BaseModel, Output, Source, StoredManifest, TrainingWork
from services.training.worker.inputs import settings_digest

pytestmark = pytest.mark.unit

FILES = ("b", "p", Manifest.from_json({"files": [{"path": "a", "size": 1, "sha256": "0" * 64}]}))
WORK = TrainingWork(
    model=BaseModel(*FILES, "mv-1", "d", ""),
    datasets=(Source(*FILES, "data.parquet", "dsv-1", 0, 1.0),),
    validation=None,
    validation_ratio=0.1,
    hyperparameters=Hyperparameters(learning_rate=1e-3),
    output=Output("b", "p"),
    resume=StoredManifest(*FILES),
)


def test_what_the_service_writes_the_worker_reads() -> None:
    assert TrainingWork.from_json(json.loads(json.dumps(WORK.to_json()))) == WORK


def test_a_spec_of_the_version_before_is_read() -> None:
    old = json.loads(json.dumps(WORK.to_json()))
    del old["format"]
    old |= {"world_size": 1, "seed": 42, "checkpoints_kept": 3}
    old["hyperparameters"]["checkpoints_kept"] = 3
    old["model"]["kind"] = "full"
    assert TrainingWork.from_json(old) == WORK


def test_a_spec_of_a_later_version_is_refused() -> None:
    with pytest.raises(Invalid, match="format 2"):
        TrainingWork.from_json({**WORK.to_json(), "format": 2})


def test_a_checkpoint_of_the_version_before_still_belongs_to_its_job() -> None:
    """The digest that version 0.1 wrote into checkpoints of this very work."""
    assert settings_digest(WORK) == "41cdc8981d371c364c7d033e3a8bef64ed5dd227368ef3cc4aac68fd51270b9f"
