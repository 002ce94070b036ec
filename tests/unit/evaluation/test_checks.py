"""What an evaluation may ask, how it is named, and what it is expected to cost."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from modelry.common.v1 import common_pb2
from modelry.evaluation.v1 import evaluation_pb2 as pb
from services.chassis.errors import Invalid, WrongState
from services.chassis.jobs import JobView, State, refuse_delete
from services.chassis.locations import ObjectLocation
from services.evaluation import messages
from services.evaluation.checks import check, labelled
from services.evaluation.domain import (
    Evaluation,
    Generation,
    Target,
    Task,
    refuse_report,
    sample_id,
)
from services.evaluation.estimate import MeasuredSpeed, estimate

pytestmark = pytest.mark.unit
MOMENT = datetime(2026, 11, 24, tzinfo=UTC)


def evaluation(**changes: Any) -> Evaluation:
    fields: dict[str, Any] = {
        "id": "eval-1",
        "project": "proj-1",
        "create_time": MOMENT,
        "update_time": MOMENT,
        "baseline": Target(ref="base"),
        "candidates": (Target(ref="tuned"),),
        "tasks": (Task(benchmark="mmlu"), Task(dataset="desk")),
    }
    return Evaluation(**{**fields, **changes})


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("evaluation.baseline", {"baseline": Target()}),
        ("evaluation.candidates", {"candidates": tuple(Target(ref=f"m{n}") for n in range(17))}),
        ("evaluation.candidates", {"candidates": (Target(ref="a", label="x"), Target(ref="b", label="x"))}),
        ("evaluation.tasks", {"tasks": ()}),
        ("evaluation.tasks", {"tasks": (Task(benchmark="mmlu", name="a"), Task(dataset="d", name="a"))}),
        ("evaluation.tasks[0]", {"tasks": (Task(),)}),
        ("evaluation.tasks[0].name", {"tasks": (Task(benchmark="mmlu", name="../x?"),)}),
        ("evaluation.tasks[0].preset.benchmark", {"tasks": (Task(benchmark="arc"),)}),
        ("evaluation.tasks[0].preset.split", {"tasks": (Task(benchmark="ceval", split="test"),)}),
        ("evaluation.tasks[0].preset.shots", {"tasks": (Task(benchmark="mmlu", shots=26),)}),
        (
            "evaluation.tasks[0].preset.location.prefix",
            {"tasks": (Task(benchmark="mmlu", location=ObjectLocation(prefix="/x")),)},
        ),
        ("evaluation.generation.stop", {"generation": Generation(stop=("",))}),
        ("evaluation.max_cost", {"max_cost": Decimal(-1)}),
        ("evaluation.output.prefix", {"output": ObjectLocation(prefix="/x")}),
        ("evaluation.name", {"name": "eval-mine"}),
        ("evaluation.metadata", {"metadata": {"": "x"}}),
    ],
)
def test_what_cannot_be_right_is_named(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        check(evaluation(**changes))
    assert field in [violation.field for violation in caught.value.violations]


def test_targets_and_tasks_get_names_of_their_own() -> None:
    named = labelled(
        evaluation(candidates=(Target(ref="base"), Target(ref="x", label="mine")), tasks=(Task(benchmark="mmlu"),) * 2)
    )
    assert [target.label for target in named.targets] == ["base", "base (2)", "mine"]
    assert [task.name for task in named.tasks] == ["mmlu", "mmlu (2)"]


def test_sample_ids_sort_by_task_question_and_target() -> None:
    named = labelled(evaluation())
    places = [("mmlu", 2, "base"), ("mmlu", 2, "tuned"), ("mmlu", 10, "base"), ("desk", 0, "base")]
    ids = [sample_id(named, {"task": task, "index": index, "target": target}) for task, index, target in places]
    assert ids == sorted(ids)


def test_a_report_is_there_after_success_only() -> None:
    for state in State:
        one = evaluation(state=state)
        if state is State.SUCCEEDED:
            refuse_report(one)
        else:
            with pytest.raises(WrongState):
                refuse_report(one)


def test_what_is_active_or_being_settled_is_not_deleted() -> None:
    refuse_delete("evaluation", evaluation(state=State.STOPPED, settled=True))
    for one in (evaluation(state=State.RUNNING), evaluation(state=State.STOPPED)):
        with pytest.raises(WrongState) as refused:
            refuse_delete("evaluation", one)
        assert refused.value.reason == "EVALUATION_ACTIVE"


def test_more_questions_larger_models_and_more_examples_take_longer() -> None:
    def minutes(**changes: Any) -> float:
        task = Task(benchmark="mmlu", question_count=1000)
        one = evaluation(tasks=(replace(task, **changes.pop("task", {})),), **changes)
        return estimate(one, MeasuredSpeed()).minutes_high

    plain = minutes()
    assert minutes(task={"question_count": 2000}) > plain
    assert minutes(task={"shots": 0}) < plain
    assert minutes(baseline=Target(ref="base", parameter_count=7_000_000_000)) > plain
    found = estimate(evaluation(tasks=(Task(dataset="d", question_count=38),)), MeasuredSpeed())
    assert 0 < found.minutes_low < found.minutes_high
    assert found.notes[0].startswith("76 questions:")


def test_a_message_and_its_evaluation_say_the_same() -> None:
    message = pb.Evaluation(
        name="mine",
        title="Mine",
        metadata={"a": "b"},
        baseline=pb.Target(model="base", label="before"),
        candidates=[pb.Target(checkpoint="ftckpt_1"), pb.Target(deployment="help")],
        tasks=[
            pb.Task(preset=pb.Task.Preset(benchmark="mmlu", shots=0, subjects=["law"], max_samples=5)),
            pb.Task(custom=pb.Task.Custom(dataset="desk", stopword_lists=["en"], system_prompt="Be brief.")),
        ],
        generation=pb.Generation(max_tokens=64, stop=["###"]),
        output=common_pb2.ObjectLocation(bucket="b", prefix="p"),
        max_cost=common_pb2.Money(units=1, nanos=500_000_000),
    )
    draft = messages.draft_of(message, "proj-1", MOMENT)
    assert draft.tasks[0].shots == 0
    assert draft.max_cost == Decimal("1.5")
    made = replace(draft, id="eval-1", unit_price=Decimal("0.25"))
    shown = messages.evaluation_message(JobView(made, None, {}, 60.0))
    for name in ("name", "title", "metadata", "candidates", "tasks", "output", "max_cost"):
        assert getattr(shown, name) == getattr(message, name), name
    assert shown.generation.top_p == 1
    assert shown.cost.nanos == 250_000_000
    assert messages.spec_of(shown) == messages.spec_of(shown)
    unset = pb.Evaluation(tasks=[pb.Task(preset=pb.Task.Preset(benchmark="mmlu"))])
    assert messages.draft_of(unset, "proj-1", MOMENT).tasks[0].shots is None


def test_every_state_of_a_job_is_a_state_of_the_api() -> None:
    for state in State:
        shown = messages.evaluation_message(JobView(evaluation(state=state), None, {}, 0.0))
        assert shown.state != pb.Evaluation.STATE_UNSPECIFIED


def test_a_quote_is_for_what_decides_the_price() -> None:
    first = pb.Evaluation(name="a", baseline=pb.Target(model="base"), title="x")
    second = pb.Evaluation(name="b", baseline=pb.Target(model="base", model_version_id="mv-1"))
    assert messages.spec_of(first) == messages.spec_of(second)
    assert messages.spec_of(first) != messages.spec_of(pb.Evaluation(baseline=pb.Target(model="other")))
