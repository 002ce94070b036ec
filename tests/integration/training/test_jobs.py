"""Fine-tuning jobs through gRPC, with a worker that only pretends to train."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from decimal import Decimal

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from modelry.common.v1 import common_pb2
from modelry.training.v1 import internal_pb2
from modelry.training.v1 import training_pb2 as pb
from services.chassis.auth import Role
from services.chassis.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound, Unavailable, WrongState
from tests.integration.training.world import OTHER, World, a_request

pytestmark = pytest.mark.integration
State = pb.Job.State


async def test_a_job_from_create_to_published(world: World) -> None:
    job = await world.create(name="first", publish_on_success=pb.PublishOnSuccess(model_name="help"))
    assert job.id.startswith("ftjob-") and job.state == State.VALIDATING
    assert (job.model, job.model_version_id, job.datasets[0].version_id) == ("tiny", "mv-1", "dsv-1")
    assert job.hyperparameters.learning_rate == 1e-3 and job.hyperparameters.cutoff_length == 512
    request = pb.WatchJobRequest(job="first")
    seen = [one async for one in world.training.WatchJob(request, metadata=world.metadata())]
    assert seen[-1].state == State.SUCCEEDED and seen[-1].published_model_version_id == "mv-tuned-1"
    done = await world.ended(job.id)
    assert (done.progress.step, done.progress.total_steps, done.attempt_count) == (6, 6, 1)
    assert done.progress.loss == pytest.approx(1 / 6)
    fake = world.others
    assert job.id in fake.registry.holds.confirmed and job.id in fake.datasets.holds.confirmed and not fake.held
    assert fake.billing.reservations[job.id].state == "SETTLED" and fake.billing.reservations[job.id].settled > 0
    published = fake.registry.published[0]
    assert (published.model_name, published.step, published.final) == ("help", 6, True)
    assert published.files.prefix.endswith("/checkpoint-6/adapter")
    assert [file["path"] for file in json.loads(published.files.manifest_json)["files"]] == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


async def test_older_checkpoints_are_deleted_with_their_files(world: World) -> None:
    job = await world.create(steps=8, checkpoints_kept=2)
    await world.ended(job.id)
    answer = await world.training.ListCheckpoints(pb.ListCheckpointsRequest(job=job.id), metadata=world.metadata())
    assert [one.step for one in answer.checkpoints] == [8, 6]
    assert [one.best for one in answer.checkpoints] == [True, False]
    while await world.context.garbage.tick():
        pass
    kept = {key.split("/")[3] for key in world.stored(f"jobs/{job.id}/")}
    assert kept == {"checkpoint-6", "checkpoint-8"}


async def test_stop_and_what_it_leaves(world: World) -> None:
    (world.settings.home / "slow").touch()
    job = await world.create(steps=1000, checkpoint_interval=1000)
    await world.until(job.id, lambda one: one.progress.step > 1)
    stopping = await world.training.StopJob(pb.StopJobRequest(job=job.id), metadata=world.metadata())
    assert stopping.state == State.STOPPING
    done = await world.ended(job.id)
    assert done.state == State.STOPPED and done.best_checkpoint_id
    again = await world.training.StopJob(pb.StopJobRequest(job=job.id), metadata=world.metadata())
    assert again.state == State.STOPPED


async def test_stop_of_a_finished_job_is_refused(world: World) -> None:
    job = await world.create(steps=2)
    await world.ended(job.id)
    with pytest.raises(WrongState) as refused:
        await world.training.StopJob(pb.StopJobRequest(job=job.id), metadata=world.metadata())
    assert refused.value.reason == "JOB_NOT_ACTIVE" and refused.value.metadata["state"] == "SUCCEEDED"


async def test_a_killed_worker_goes_on_with_the_same_curve(world: World) -> None:
    (world.settings.home / "slow").touch()
    job = await world.create(steps=30, checkpoint_interval=5)
    await world.until(job.id, lambda one: one.progress.step >= 12)
    probe = await world.launcher.probe(f"{job.id}-1")
    assert probe.pid is not None
    os.kill(probe.pid, signal.SIGKILL)
    done = await world.ended(job.id)
    assert (done.state, done.attempt_count) == (State.SUCCEEDED, 2)
    request = pb.ReadJobMetricsRequest(job=job.id)
    points = [one async for one in world.training.ReadJobMetrics(request, metadata=world.metadata())]
    assert [one.step for one in points] == list(range(1, 31))
    assert all(one.values["loss"] == pytest.approx(1 / one.step) for one in points)


async def test_the_same_create_twenty_times_in_parallel_makes_one_job(world: World) -> None:
    jobs = await asyncio.gather(*(world.create("req-1", name="once") for _ in range(20)))
    assert len({job.id for job in jobs}) == 1
    listed = await world.training.ListJobs(pb.ListJobsRequest(), metadata=world.metadata())
    assert [job.id for job in listed.jobs] == [jobs[0].id]
    with pytest.raises(AlreadyExists):
        await world.create("req-1", name="another")


async def test_a_create_left_half_done_is_finished_by_its_retry(world: World) -> None:
    world.others.billing.away.add("reserve")
    with pytest.raises(Unavailable):
        await world.create("req-1", name="half")
    world.others.billing.away.clear()
    held = world.others.held
    assert held == [(await world.create("req-1", name="half")).id]


async def test_a_failed_create_without_a_request_id_leaves_nothing(world: World) -> None:
    world.others.billing.away.add("reserve")
    with pytest.raises(Unavailable):
        await world.create()
    assert not world.others.held
    world.others.billing.away.clear()
    assert not (await world.training.ListJobs(pb.ListJobsRequest(), metadata=world.metadata())).jobs


@pytest.mark.parametrize(
    ("fields", "error", "path"),
    [
        ({"model": "nothing"}, NotFound, "job.model"),
        ({"model": "adapter"}, Invalid, "job.model"),
        ({"datasets": [pb.JobDataset(ref="nothing")]}, NotFound, "job.datasets[0].ref"),
        ({"datasets": [pb.JobDataset(ref="pairs")]}, Invalid, "job.datasets[0].ref"),
        ({"output": common_pb2.ObjectLocation(credential="nothing")}, NotFound, "job.output.credential"),
        ({"validation_ratio": 0.7}, Invalid, "job.validation_ratio"),
        ({"datasets": []}, Invalid, "job.datasets"),
    ],
)
async def test_what_is_bad_is_refused_by_its_path(world: World, fields: dict, error: type, path: str) -> None:
    for method in (world.training.CreateJob, world.training.QuoteJob):
        with pytest.raises(error) as refused:
            await method(a_request("req-bad", **fields), metadata=world.metadata())
        named = refused.value.field if isinstance(refused.value, Invalid) else refused.value.metadata["field"]
        assert named == path
    assert not world.others.held and not world.others.billing.reservations
    # A refused request leaves nothing behind: its id may be used for a right one.
    assert (await world.create("req-bad")).id


async def test_a_quote_says_steps_and_warns(world: World) -> None:
    quote = await world.training.QuoteJob(a_request(steps=3), metadata=world.metadata())
    # 100 rows in batches of 8 are 13 steps an epoch.
    assert "39 optimizer steps" in quote.notes[0] and any("Warning" in note for note in quote.notes)
    assert not world.others.held


async def test_validating_waits_for_the_model(world: World) -> None:
    world.others.registry.change("mv-1", state="PREPARING")
    job = await world.create(steps=2)
    waiting = await world.until(job.id, lambda one: "being prepared." in one.cause and "model" in one.cause)
    assert waiting.state == State.VALIDATING
    world.others.registry.change("mv-1", state="READY")
    assert (await world.ended(job.id)).state == State.SUCCEEDED


async def test_a_model_that_cannot_be_prepared_fails_the_job(world: World) -> None:
    world.others.registry.change("mv-1", state="PREPARING")
    job = await world.create(steps=2)
    world.others.registry.change("mv-1", state="FAILED", failure="It is broken.")
    done = await world.ended(job.id)
    assert done.state == State.FAILED and "It is broken." in done.failure.message
    assert world.others.billing.in_state("RELEASED") == {job.id} and not world.others.held


async def test_the_end_is_settled_again_and_again(world: World) -> None:
    world.others.billing.away.add("settle")
    job = await world.create(steps=2)
    await world.until(job.id, lambda one: one.state == State.SUCCEEDED)
    assert world.others.billing.in_state("SETTLED") == set()
    world.others.billing.away.clear()
    await world.ended(job.id)
    assert world.others.billing.in_state("SETTLED") == {job.id}


async def test_the_highest_cost_stops_the_job_with_a_checkpoint(world: World) -> None:
    (world.settings.home / "slow").touch()
    world.others.billing.prices["training-minute"] = Decimal(60)  # 1 a second
    job = await world.create(steps=1000, checkpoint_interval=1000, max_cost=common_pb2.Money(units=36))
    done = await world.ended(job.id)
    assert done.state == State.STOPPED and "may not cost more than 36" in done.cause
    assert done.best_checkpoint_id and done.cost.units < 36


async def test_update_delete_and_clone(world: World) -> None:
    (world.settings.home / "slow").touch()
    job = await world.create(name="old", steps=60, checkpoint_interval=20)
    changed = pb.Job(id=job.id, title="Neu", metadata={"team": "a"})
    mask = FieldMask(paths=["title", "metadata"])
    after = await world.training.UpdateJob(
        pb.UpdateJobRequest(job=changed, update_mask=mask), metadata=world.metadata()
    )
    assert (after.title, dict(after.metadata)) == ("Neu", {"team": "a"})
    changed.etag = "1"
    with pytest.raises(Conflict):
        await world.training.UpdateJob(pb.UpdateJobRequest(job=changed), metadata=world.metadata())
    with pytest.raises(Invalid):
        await world.training.UpdateJob(
            pb.UpdateJobRequest(job=pb.Job(id=job.id, model="x"), update_mask=FieldMask(paths=["model"])),
            metadata=world.metadata(),
        )
    with pytest.raises(WrongState):
        await world.training.DeleteJob(pb.DeleteJobRequest(job="old"), metadata=world.metadata())
    request = pb.CloneJobRequest(job="old", name="new", request_id="c-1")
    clone = await world.training.CloneJob(request, metadata=world.metadata())
    assert (await world.training.CloneJob(request, metadata=world.metadata())).id == clone.id
    assert (clone.name, clone.model_version_id, clone.hyperparameters) == ("new", "mv-1", job.hyperparameters)
    await world.ended(job.id)
    await world.training.DeleteJob(pb.DeleteJobRequest(job="old"), metadata=world.metadata())
    with pytest.raises(NotFound):
        await world.get(job.id)
    while await world.context.garbage.tick():
        pass
    assert world.stored(f"jobs/{job.id}/") == []
    assert (await world.ended(clone.id)).state == State.SUCCEEDED


async def test_a_worker_that_lingers_is_dead_before_its_job_is_deleted(world: World) -> None:
    (world.settings.home / "lingers").touch()
    job = await world.ended((await world.create(steps=2)).id)
    await world.training.DeleteJob(pb.DeleteJobRequest(job=job.id), metadata=world.metadata())
    assert await world.launcher.list() == []


async def test_a_checkpoint_is_published_and_resolved(world: World) -> None:
    job = await world.create(steps=4)
    done = await world.ended(job.id)
    wish = pb.PublishCheckpointRequest(checkpoint=done.best_checkpoint_id, model_name="help", request_id="p-1")
    version = await world.training.PublishCheckpoint(wish, metadata=world.metadata())
    assert (await world.training.PublishCheckpoint(wish, metadata=world.metadata())).id == version.id
    wish.model_name = "another"
    with pytest.raises(AlreadyExists):
        await world.training.PublishCheckpoint(wish, metadata=world.metadata())
    request = pb.GetCheckpointRequest(checkpoint=done.best_checkpoint_id)
    shown = await world.training.GetCheckpoint(request, metadata=world.metadata())
    assert list(shown.model_version_ids) == [version.id] and shown.size_bytes > 0
    resolved = await world.internal.ResolveCheckpoint(
        internal_pb2.ResolveCheckpointRequest(checkpoint=shown.id), metadata=world.metadata(kind="service")
    )
    assert (resolved.base_model_version_id, resolved.step) == ("mv-1", 4)
    with pytest.raises(Invalid):
        wish = pb.PublishCheckpointRequest(checkpoint=shown.id, model_name="Not A Name")
        await world.training.PublishCheckpoint(wish, metadata=world.metadata())


async def test_another_project_sees_nothing(world: World) -> None:
    job = await world.create(steps=2)
    done = await world.ended(job.id)
    other = world.metadata(OTHER)
    training = world.training
    for call in (
        training.GetJob(pb.GetJobRequest(job=job.id), metadata=other),
        training.StopJob(pb.StopJobRequest(job=job.id), metadata=other),
        training.DeleteJob(pb.DeleteJobRequest(job=job.id), metadata=other),
        training.UpdateJob(pb.UpdateJobRequest(job=pb.Job(id=job.id, title="x")), metadata=other),
        training.CloneJob(pb.CloneJobRequest(job=job.id), metadata=other),
        training.ListCheckpoints(pb.ListCheckpointsRequest(job=job.id), metadata=other),
        training.GetCheckpoint(pb.GetCheckpointRequest(checkpoint=done.best_checkpoint_id), metadata=other),
    ):
        with pytest.raises(NotFound):
            await call
    for stream in (
        training.WatchJob(pb.WatchJobRequest(job=job.id), metadata=other),
        training.ReadJobLogs(pb.ReadJobLogsRequest(job=job.id), metadata=other),
        training.ReadJobMetrics(pb.ReadJobMetricsRequest(job=job.id), metadata=other),
    ):
        with pytest.raises(NotFound):
            async for _ in stream:
                pass
    assert not (await training.ListJobs(pb.ListJobsRequest(), metadata=other)).jobs
    with pytest.raises(Denied):
        await training.StopJob(pb.StopJobRequest(job=job.id), metadata=world.metadata(role=Role.VIEWER))


async def test_lists_filter_and_page(world: World) -> None:
    jobs = [await world.create(name=f"job-{number}", steps=1) for number in range(3)]
    for job in jobs:
        await world.ended(job.id)
    request = pb.ListJobsRequest(page_size=2, filter="state = SUCCEEDED")
    first = await world.training.ListJobs(request, metadata=world.metadata())
    assert [job.name for job in first.jobs] == ["job-2", "job-1"]
    request.page_token = first.next_page_token
    second = await world.training.ListJobs(request, metadata=world.metadata())
    assert [job.name for job in second.jobs] == ["job-0"] and not second.next_page_token
    with pytest.raises(Invalid):
        await world.training.ListJobs(pb.ListJobsRequest(filter="title = x"), metadata=world.metadata())


async def test_logs_and_metrics_follow_until_the_end(world: World) -> None:
    (world.settings.home / "slow").touch()
    job = await world.create(steps=10)
    request = pb.ReadJobMetricsRequest(job=job.id, follow=True)
    points = [one.step async for one in world.training.ReadJobMetrics(request, metadata=world.metadata())]
    assert points == list(range(1, 11))
    logs = pb.ReadJobLogsRequest(job=job.id, follow=True)
    assert [one async for one in world.training.ReadJobLogs(logs, metadata=world.metadata())] == []
