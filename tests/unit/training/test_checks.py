"""Everything that a job may not ask is refused with its path; what it may leave out has its documented default."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from modelry.training.v1 import training_pb2 as pb
from services.chassis.errors import Invalid, WrongState
from services.chassis.jobs import State, refuse_delete
from services.chassis.locations import ObjectLocation
from services.chassis.proto_values import message_of
from services.training.checks import RANGES, check
from services.training.domain import (
    Checkpoint,
    ComputeType,
    DatasetUse,
    FlashAttention,
    Hyperparameters,
    Job,
    is_better,
    to_drop,
)
from services.training.messages import draft_of, hyperparameters_of, spec_digest

pytestmark = pytest.mark.unit
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_job(**changes: object) -> Job:
    job = Job(
        id="ftjob-1",
        project="proj-1",
        create_time=NOW,
        update_time=NOW,
        model="smollm2-135m-instruct",
        datasets=(DatasetUse(ref="support"),),
    )
    return replace(job, **changes)  # type: ignore[arg-type]


def refused(job: Job, gpus: int = 0, cpus: int = 2) -> list[str]:
    with pytest.raises(Invalid) as error:
        check(job, gpus=gpus, cpus=cpus)
    return [violation.field for violation in error.value.violations]


def test_a_plain_job_is_accepted() -> None:
    check(a_job(), cpus=2)


@pytest.mark.parametrize("name", RANGES)
def test_every_number_has_its_range(name: str) -> None:
    low, high = RANGES[name]
    whole = isinstance(getattr(Hyperparameters(), name), int)
    outside = [high + 1 if whole else high * 2 + 1, low - 1 if name != "learning_rate" else 1e-9]
    for value in filter(math.isfinite, outside):
        values = replace(Hyperparameters(), **{name: type(getattr(Hyperparameters(), name))(value)})
        assert refused(a_job(hyperparameters=values), cpus=100)[0] == f"job.hyperparameters.{name}"
    if name != "world_size":
        for value in filter(math.isfinite, (low, high)):
            values = replace(Hyperparameters(), **{name: type(getattr(Hyperparameters(), name))(value)})
            check(a_job(hyperparameters=values), cpus=2)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"model": ""}, "job.model"),
        ({"datasets": ()}, "job.datasets"),
        ({"datasets": (DatasetUse(ref=""),)}, "job.datasets[0].ref"),
        ({"datasets": tuple(DatasetUse(ref=f"d{i}") for i in range(33))}, "job.datasets"),
        ({"datasets": (DatasetUse(ref="a"), DatasetUse(ref="b", weight=101))}, "job.datasets[1].weight"),
        ({"datasets": (DatasetUse(ref="a", max_samples=-1),)}, "job.datasets[0].max_samples"),
        ({"validation_ratio": 0.6}, "job.validation_ratio"),
        ({"validation_ratio": float("nan")}, "job.validation_ratio"),
        ({"validation_ratio": 0.1, "validation_dataset": DatasetUse(ref="v")}, "job.validation_ratio"),
        ({"validation_dataset": DatasetUse(ref="")}, "job.validation_dataset.ref"),
        ({"name": "Not A Name"}, "job.name"),
        ({"suffix": "UPPER"}, "job.suffix"),
        ({"metadata": {str(i): "" for i in range(17)}}, "job.metadata"),
        ({"metadata": {"": "v"}}, "job.metadata"),
        ({"publish_model_name": "!"}, "job.publish_on_success.model_name"),
        ({"max_cost": Decimal(-1)}, "job.max_cost"),
        ({"output": ObjectLocation(prefix="/abs")}, "job.output.prefix"),
        ({"hyperparameters": Hyperparameters(compute_type=ComputeType.FP16)}, "job.hyperparameters.compute_type"),
        (
            {"hyperparameters": Hyperparameters(flash_attention=FlashAttention.FA2)},
            "job.hyperparameters.flash_attention",
        ),
        ({"hyperparameters": Hyperparameters(world_size=3)}, "job.hyperparameters.world_size"),
        ({"hyperparameters": Hyperparameters(target_modules=("q proj",))}, "job.hyperparameters.target_modules[0]"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], path: str) -> None:
    assert path in refused(a_job(**changes))


def test_a_gpu_admits_what_needs_one() -> None:
    values = Hyperparameters(compute_type=ComputeType.FP16, flash_attention=FlashAttention.FA2, world_size=4)
    check(a_job(hyperparameters=values), gpus=4, cpus=2)


def test_all_that_is_wrong_is_told_at_once() -> None:
    job = a_job(model="", datasets=(), hyperparameters=Hyperparameters(lora_rank=0))
    assert refused(job) == ["job.model", "job.datasets", "job.hyperparameters.lora_rank"]


def test_defaults_are_the_documented_ones() -> None:
    values = hyperparameters_of(pb.Hyperparameters())
    assert values == Hyperparameters()
    assert hyperparameters_of(pb.Hyperparameters(lora_rank=16)).lora_alpha == 32
    explicit = pb.Hyperparameters(warmup_ratio=0.0, max_gradient_norm=0.0, seed=0)
    zero = hyperparameters_of(explicit)
    assert (zero.warmup_ratio, zero.max_gradient_norm, zero.seed) == (0.0, 0.0, 0)


def test_hyperparameters_survive_the_message() -> None:
    values = Hyperparameters(
        learning_rate=0.01,
        epochs=2.5,
        compute_type=ComputeType.FP32,
        warmup_ratio=0.0,
        target_modules=("q_proj",),
        seed=7,
        lora_rank=4,
        lora_alpha=9,
    )
    assert hyperparameters_of(message_of(pb.Hyperparameters, values)) == values


def test_the_learning_rate_follows_the_size_of_the_model() -> None:
    assert Hyperparameters().for_model(499_999_999, 0).learning_rate == 1e-3
    assert Hyperparameters().for_model(500_000_000, 0).learning_rate == 2e-4
    assert Hyperparameters(learning_rate=0.5).for_model(1, 0).learning_rate == 0.5
    assert Hyperparameters().for_model(1, 512).cutoff_length == 512


def test_a_quote_is_for_the_work_and_not_for_its_name() -> None:
    one = pb.Job(model="m", name="a", datasets=[pb.JobDataset(ref="d")])
    same = pb.Job(model="m", title="t", quote_id="q", datasets=[pb.JobDataset(ref="d")])
    same.hyperparameters.epochs = 3
    other = pb.Job(model="m", datasets=[pb.JobDataset(ref="d")], validation_ratio=0.1)
    digests = [spec_digest(job, draft_of(job, "proj-1")) for job in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]


def a_checkpoint(step: int, loss: float | None = None) -> Checkpoint:
    metrics = {} if loss is None else {"validation_loss": loss}
    return Checkpoint(id=f"c{step}", project="p", job_id="j", create_time=NOW, step=step, metrics=metrics)


def test_the_best_checkpoint_has_the_least_validation_loss_else_is_the_last() -> None:
    assert is_better(a_checkpoint(1), None)
    assert is_better(a_checkpoint(2), a_checkpoint(1))
    assert is_better(a_checkpoint(2, 0.5), a_checkpoint(1, 0.6))
    assert not is_better(a_checkpoint(2, 0.7), a_checkpoint(1, 0.6))
    assert not is_better(a_checkpoint(2), a_checkpoint(1, 0.6))
    assert is_better(a_checkpoint(2, 0.7), a_checkpoint(1))


def test_older_checkpoints_are_dropped_but_never_a_protected_one() -> None:
    all_of_them = [a_checkpoint(step) for step in range(1, 7)]
    assert [one.id for one in to_drop(all_of_them, 3, {"c2", "c6"})] == ["c3", "c1"]
    assert to_drop(all_of_them, 6, set()) == []


@pytest.mark.parametrize("state", State)
def test_only_an_ended_job_is_deleted(state: State) -> None:
    if state.ended:
        refuse_delete("job", a_job(state=state, settled=True))
    with pytest.raises(WrongState) as error:
        refuse_delete("job", a_job(state=state, settled=False))
    assert error.value.reason == "JOB_ACTIVE"


def test_the_cost_is_by_the_second() -> None:
    # 90 s at 0.10 a minute
    assert a_job(unit_price=Decimal("0.10")).cost(90) == Decimal("0.15")
