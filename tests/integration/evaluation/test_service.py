"""The evaluation service from its door to its workers."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from modelry.common.v1.common_pb2 import ObjectLocation
from modelry.evaluation.v1 import evaluation_pb2 as pb
from services.chassis.data import UnitOfWork, differences, outbox
from services.chassis.errors import AlreadyExists, Conflict, Invalid, NotFound, WrongState
from services.chassis.jobs import AttemptState
from services.clients.registry import ModelInfo
from services.clients.training import CheckpointInfo
from services.evaluation.benchmarks.presets import PRESETS
from services.evaluation.store import metadata
from tests.integration.evaluation.world import OTHER, PROJECT, QUESTIONS, SUBJECTS, World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def preset_task(**changes: Any) -> pb.Task:
    return pb.Task(preset=pb.Task.Preset(**{"benchmark": "mmlu", "shots": 2, **changes}))


def wish(**changes: Any) -> pb.Evaluation:
    fields: dict[str, Any] = {
        "baseline": pb.Target(model="base"),
        "candidates": [pb.Target(model="tuned")],
        "tasks": [preset_task()],
    }
    return pb.Evaluation(**{**fields, **changes})


async def events(world: World, evaluation: str) -> list[str]:
    import json

    async with UnitOfWork(world.database, write=False) as uow:
        rows = await uow.connection.execute(select(outbox.c.body).order_by(outbox.c.id))
        bodies = [json.loads(text) for (text,) in rows]
    return [body["happening"] for body in bodies if body["resource_id"] == evaluation]


async def test_the_whole_way_from_create_to_report_and_delete(world: World, tiny_models: tuple[Path, ...]) -> None:
    own = await world.call(
        "CreateStopwordList", pb.CreateStopwordListRequest(stopword_list=pb.StopwordList(name="ours", words=["desk"]))
    )
    custom = pb.Task.Custom(dataset="desk", stopword_lists=["en", "ours"])
    location = ObjectLocation(bucket=world.bucket, prefix="own/set")
    made = await world.create(
        wish(
            name="compare",
            tasks=[preset_task(location=location), pb.Task(name="our desk", custom=custom)],
            generation=pb.Generation(max_tokens=8),
        )
    )
    assert made.id.startswith("eval-")
    assert made.state == pb.Evaluation.VALIDATING
    assert made.candidates[0].model_version_id == "mv-tuned"
    assert made.tasks[1].custom.dataset_version_id == "dsv-desk"
    with pytest.raises(WrongState):
        await world.call("GetReport", pb.GetReportRequest(evaluation="compare"))
    with pytest.raises(WrongState, match="used by compare"):
        await world.call("DeleteStopwordList", pb.DeleteStopwordListRequest(stopword_list=own.id))
    seen = await world.until_end("compare")
    assert seen[-1].state == pb.Evaluation.SUCCEEDED, seen[-1]
    assert [one.version for one in seen] == sorted(one.version for one in seen)
    assert any(one.progress.total == 2 * (len(SUBJECTS) * QUESTIONS + 3) for one in seen)

    report = await world.call("GetReport", pb.GetReportRequest(evaluation="compare"))
    scores = {(score.task, score.target, score.metric, score.group): score for score in report.scores}
    assert scores["mmlu", "tuned", "accuracy", "Average"].sample_count == len(SUBJECTS) * QUESTIONS
    assert scores["our desk", "base", "rouge_l_f", "Average"].unscored_count == 1
    assert report.main_metrics == {"mmlu": "accuracy", "our desk": "rouge_l_f"}
    assert {one.verdict for one in report.comparisons} <= {"better", "worse", "no significant difference"}
    settings = {one.task: dict(one.values) for one in report.settings}
    assert settings["mmlu"]["shots"] == "2"
    assert settings["our desk"]["stopwords"] == "en+ours"
    names = {entry.key for entry in world.store.list(report.location.bucket, report.location.prefix + "/")}
    assert {name.rpartition("/")[2] for name in names} == {"report.json", "report.html", "scores.csv", "samples.jsonl"}

    await check_samples(world)
    assert await events(world, made.id) == ["created", "queued", "running", "succeeded"]
    async with asyncio.timeout(20):
        while made.id not in world.others.billing.in_state("SETTLED"):
            await asyncio.sleep(0.05)
    assert made.id in world.others.registry.holds.confirmed and made.id in world.others.datasets.holds.confirmed
    assert not world.others.held
    await delete(world, "compare")
    async with asyncio.timeout(10):  # the files go after the transaction that deletes the evaluation
        while list(world.store.list(report.location.bucket, report.location.prefix + "/")):
            await asyncio.sleep(0.05)
    with pytest.raises(NotFound):
        await world.call("GetEvaluation", pb.GetEvaluationRequest(evaluation=made.id))


async def check_samples(world: World) -> None:
    async def samples(**changes: Any) -> Any:
        return await world.call("ListSamples", pb.ListSamplesRequest(evaluation="compare", **changes))

    first = await samples(page_size=5)
    assert [(one.task, one.index, one.target) for one in first.samples] == [
        ("mmlu", 0, "base"),
        ("mmlu", 0, "tuned"),
        ("mmlu", 1, "base"),
        ("mmlu", 1, "tuned"),
        ("mmlu", 2, "base"),
    ]
    second = await samples(page_size=5, page_token=first.next_page_token)
    assert [(one.index, one.target) for one in second.samples][:2] == [(2, "tuned"), (3, "base")]
    right = await samples(filter='target = "tuned" AND score >= 1 AND group = astronomy', page_size=100)
    assert all(one.target == "tuned" and one.output == one.references[0] for one in right.samples)
    everything = await samples(page_size=1000)
    assert len(everything.samples) == 2 * (len(SUBJECTS) * QUESTIONS + 3)
    lowest = await samples(order_by="score", page_size=3)
    assert [one.score for one in lowest.samples] == sorted(one.score for one in lowest.samples)
    with pytest.raises(Invalid) as caught:
        await samples(filter="colour = red")
    assert caught.value.field == "filter"


async def delete(world: World, ref: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await world.call("DeleteEvaluation", pb.DeleteEvaluationRequest(evaluation=ref))
                return
            except WrongState:  # it is just being settled
                await asyncio.sleep(0.05)


async def test_a_killed_worker_is_followed_by_another_and_no_sample_is_there_twice(
    world: World, tiny_models: tuple[Path, ...]
) -> None:
    adapter = tiny_models[2]
    files = world.upload(adapter, "ckpt")
    found = CheckpointInfo(checkpoint_id="ftckpt_1", base_model_version_id="mv-base", adapter=files)
    world.others.training.add(found, PROJECT)
    made = await world.create(wish(candidates=[pb.Target(checkpoint="ftckpt_1", label="step 10")]))
    async with asyncio.timeout(120):
        while True:
            attempts = await world.engine.attempts(made.id)
            if attempts and attempts[0].state is AttemptState.RUNNING:
                break
            await asyncio.sleep(0.05)
    probe = await world.launcher.probe(attempts[0].launch_id)
    assert probe.pid
    os.kill(probe.pid, signal.SIGKILL)
    seen = await world.until_end(made.id)
    assert seen[-1].state == pb.Evaluation.SUCCEEDED, seen[-1]
    assert seen[-1].attempt_count == 2
    found = await world.call("ListSamples", pb.ListSamplesRequest(evaluation=made.id, page_size=1000))
    assert len(found.samples) == 2 * len(SUBJECTS) * QUESTIONS
    assert (await events(world, made.id)).count("succeeded") == 1


async def test_a_stop_ends_it_once(world: World) -> None:
    world.others.registry.add(ModelInfo(version_id="mv-slow", state="PREPARING"), "slow")
    made = await world.create(wish(baseline=pb.Target(model="slow")))
    for _ in range(2):
        stopped = await world.call("StopEvaluation", pb.StopEvaluationRequest(evaluation=made.id))
        assert stopped.state == pb.Evaluation.STOPPED
    assert (await events(world, made.id))[-1] == "stopped"
    assert (await events(world, made.id)).count("stopped") == 1


async def test_a_model_that_cannot_be_prepared_fails_it_in_plain_words(world: World) -> None:
    world.others.registry.add(ModelInfo(version_id="mv-slow", state="PREPARING"), "slow")
    made = await world.create(wish(baseline=pb.Target(model="slow")))
    world.others.registry.change("mv-slow", state="FAILED", failure="its files are damaged")
    seen = await world.until_end(made.id, 30)
    assert seen[-1].state == pb.Evaluation.FAILED
    assert "its files are damaged" in seen[-1].failure.message


async def test_the_same_request_twenty_times_makes_one(world: World) -> None:
    made = await asyncio.gather(*(world.create(wish(name="once"), "r-1") for _ in range(20)))
    assert len({one.id for one in made}) == 1
    with pytest.raises(AlreadyExists):
        await world.create(wish(name="other"), "r-1")
    with pytest.raises(AlreadyExists):
        await world.create(wish(name="once"))


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("evaluation.baseline.model", {"baseline": pb.Target(model="none")}),
        ("evaluation.candidates[0].checkpoint", {"candidates": [pb.Target(checkpoint="ftckpt_none")]}),
        ("evaluation.candidates[0]", {"candidates": [pb.Target(label="empty")]}),
        ("evaluation.name", {"name": "No Name"}),
        ("evaluation.tasks[0].preset.benchmark", {"tasks": [preset_task(benchmark="none")]}),
        ("evaluation.tasks[0].preset.split", {"tasks": [preset_task(benchmark="ceval", split="test")]}),
        ("evaluation.tasks[0].preset.location", {"tasks": [preset_task(benchmark="cmmlu")]}),
        (
            "evaluation.tasks[0].preset.location",
            {"tasks": [preset_task(location=ObjectLocation(credential="any", bucket="no-such-bucket", prefix="x"))]},
        ),
        (
            "evaluation.tasks[0].preset.location.credential",
            {"tasks": [preset_task(location=ObjectLocation(credential="none", prefix="x"))]},
        ),
        (
            "evaluation.tasks[0].preset.location.bucket",
            {"tasks": [preset_task(location=ObjectLocation(credential="any", prefix="x"))]},
        ),
        ("evaluation.output.credential", {"output": ObjectLocation(credential="none")}),
        ("evaluation.tasks[0].custom.dataset", {"tasks": [pb.Task(custom=pb.Task.Custom(dataset="none"))]}),
        (
            "evaluation.tasks[0].custom.stopword_lists[0]",
            {"tasks": [pb.Task(custom=pb.Task.Custom(dataset="desk", stopword_lists=["none"]))]},
        ),
        ("evaluation.generation.temperature", {"generation": pb.Generation(temperature=3)}),
    ],
)
async def test_bad_input_is_refused_with_its_field_and_leaves_nothing(
    world: World, path: str, changes: dict[str, Any]
) -> None:
    with pytest.raises((Invalid, NotFound)) as caught:
        await world.create(wish(**changes))
    error = caught.value
    named = error.field if isinstance(error, Invalid) else error.metadata["field"]
    assert named == path
    assert not (await world.call("ListEvaluations", pb.ListEvaluationsRequest())).evaluations
    assert not world.others.billing.reservations


async def test_another_projects_things_do_not_exist(world: World) -> None:
    made = await world.create(wish())
    own = pb.CreateStopwordListRequest(stopword_list=pb.StopwordList(name="ours", words=["a"]))
    words = await world.call("CreateStopwordList", own)
    requests = {
        "GetEvaluation": pb.GetEvaluationRequest(evaluation=made.id),
        "UpdateEvaluation": pb.UpdateEvaluationRequest(evaluation=pb.Evaluation(id=made.id, title="x")),
        "DeleteEvaluation": pb.DeleteEvaluationRequest(evaluation=made.id),
        "StopEvaluation": pb.StopEvaluationRequest(evaluation=made.id),
        "GetReport": pb.GetReportRequest(evaluation=made.id),
        "ListSamples": pb.ListSamplesRequest(evaluation=made.id),
        "GetStopwordList": pb.GetStopwordListRequest(stopword_list=words.id),
        "DeleteStopwordList": pb.DeleteStopwordListRequest(stopword_list=words.id),
    }
    for method, request in requests.items():
        with pytest.raises(NotFound):
            await world.call(method, request, OTHER)


async def test_a_stop_word_is_not_empty(world: World) -> None:
    for word in ("", " ", "# #"):
        wrong = pb.CreateStopwordListRequest(stopword_list=pb.StopwordList(name="ours", words=["a", word]))
        with pytest.raises(Invalid) as caught:
            await world.call("CreateStopwordList", wrong)
        assert caught.value.field == "stopword_list.words"


async def test_quote_update_lists_and_benchmarks(world: World) -> None:
    quote = await world.call("QuoteEvaluation", pb.CreateEvaluationRequest(evaluation=wish()))
    assert 0 < quote.items[0].quantity_low < quote.items[0].quantity_high
    assert not (await world.call("ListEvaluations", pb.ListEvaluationsRequest())).evaluations
    made = await world.create(wish(name="mine"))
    changed = await world.call(
        "UpdateEvaluation", pb.UpdateEvaluationRequest(evaluation=pb.Evaluation(id=made.id, title="Two models"))
    )
    assert changed.title == "Two models"
    assert (await events(world, made.id))[-1] == "updated"
    with pytest.raises(Conflict):
        await world.call(
            "UpdateEvaluation",
            pb.UpdateEvaluationRequest(evaluation=pb.Evaluation(id=made.id, title="x", etag="1000")),
        )
    listed = await world.call("ListEvaluations", pb.ListEvaluationsRequest(filter="name = mine"))
    assert [one.id for one in listed.evaluations] == [made.id]
    benchmarks = (await world.call("ListBenchmarks", pb.ListBenchmarksRequest())).benchmarks
    assert [one.name for one in benchmarks] == sorted(PRESETS)
    assert list(benchmarks[0].splits) == ["val"]
    with pytest.raises(NotFound):
        await world.call("GetBenchmark", pb.GetBenchmarkRequest(benchmark="none"))
    lists = (await world.call("ListStopwordLists", pb.ListStopwordListsRequest())).stopword_lists
    assert [(one.id, one.preset) for one in lists] == [("en", True), ("zh", True)]
    with pytest.raises(WrongState):
        await world.call("DeleteStopwordList", pb.DeleteStopwordListRequest(stopword_list="en"))


async def test_the_migration_makes_what_the_store_declares(world: World) -> None:
    async with world.database.engine.connect() as connection:
        assert not await connection.run_sync(differences, metadata)
