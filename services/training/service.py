"""gRPC methods: message -> use case -> message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf.empty_pb2 import Empty

from modelry.common.v1 import common_pb2
from modelry.registry.v1 import registry_pb2
from modelry.training.v1 import internal_pb2, internal_pb2_grpc, training_pb2_grpc
from modelry.training.v1 import training_pb2 as pb
from services.chassis.auth import current
from services.chassis.data import PageQuery, request_digest
from services.chassis.jobs import CreateJob, UpdateJob
from services.chassis.proto_values import changes_of
from services.training import messages as to
from services.training import operations, queries
from services.training.context import Desk
from services.training.domain import Job


class TrainingServicer(training_pb2_grpc.TrainingServiceServicer):
    """What the doors offer."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateJob(self, request: pb.CreateJobRequest, context: Any) -> pb.Job:
        """Makes a job."""
        return await self._shown(await self._desk.verbs.create(_wish(request)))

    async def QuoteJob(self, request: pb.CreateJobRequest, context: Any) -> common_pb2.Quote:
        """What a job would cost."""
        return await self._desk.verbs.quote(_wish(request))

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.Job:
        """One job."""
        return await self._get(request.job)

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        """Jobs, newest first."""
        query = PageQuery(request.page_size, request.page_token, request.filter, request.order_by)
        page = await queries.list_jobs(self._desk, current().project, query)
        return pb.ListJobsResponse(jobs=await self._all(page.items), next_page_token=page.next_page_token)

    async def UpdateJob(self, request: pb.UpdateJobRequest, context: Any) -> pb.Job:
        """Changes title or metadata."""
        wanted = request.job
        ref = wanted.id or wanted.name
        changes = await changes_of(request, lambda: self._get(ref))
        command = UpdateJob(
            current().project,
            ref,
            changes.get("title"),
            changes.get("metadata"),
            wanted.etag,
        )
        return await self._shown(await self._desk.verbs.update(command))

    async def DeleteJob(self, request: pb.DeleteJobRequest, context: Any) -> Empty:
        """Deletes an ended job."""
        await self._desk.verbs.delete(current().project, request.job)
        self._desk.garbage.kick()
        return Empty()

    async def StopJob(self, request: pb.StopJobRequest, context: Any) -> pb.Job:
        """Stops a job with a checkpoint."""
        return await self._shown(await self._desk.verbs.stop(current().project, request.job))

    async def CloneJob(self, request: pb.CloneJobRequest, context: Any) -> pb.Job:
        """Makes a job like an old one."""
        old = await self._desk.engine.job(current().project, request.job)
        draft = operations.clone_draft(old, request.name)
        command = CreateJob(draft, "", "CloneJob", request.request_id, request_digest(request))
        return await self._shown(await self._desk.verbs.create(command))

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.Job]:
        """The job as it is, then each change and its progress."""
        async for job in queries.watch_job(self._desk, current().project, request.job, request.after_version):
            yield await self._shown(job)

    async def ReadJobLogs(self, request: pb.ReadJobLogsRequest, context: Any) -> AsyncIterator[pb.LogLine]:
        """The log of all attempts."""
        async for attempt, line in self._desk.engine.logs(current().project, request.job, request.follow):
            yield pb.LogLine(attempt=attempt, text=line)

    async def ReadJobMetrics(self, request: pb.ReadJobMetricsRequest, context: Any) -> AsyncIterator[pb.MetricPoint]:
        """The metric points by step."""
        after = request.after_step or -1  # a validation before the first step stands at step 0
        points = queries.read_metrics(
            self._desk, current().project, request.job, after_step=after, follow=request.follow
        )
        async for point in points:
            yield pb.MetricPoint(step=point.step, values=point.values)

    async def ListCheckpoints(self, request: pb.ListCheckpointsRequest, context: Any) -> pb.ListCheckpointsResponse:
        """The kept checkpoints of a job, newest first."""
        query = PageQuery(request.page_size, request.page_token)
        job, page = await queries.list_checkpoints(self._desk, current().project, request.job, query)
        found = [to.checkpoint_message(checkpoint, job) for checkpoint in page.items]
        return pb.ListCheckpointsResponse(checkpoints=found, next_page_token=page.next_page_token)

    async def GetCheckpoint(self, request: pb.GetCheckpointRequest, context: Any) -> pb.Checkpoint:
        """One checkpoint."""
        checkpoint, job = await queries.get_checkpoint(self._desk, current().project, request.checkpoint)
        return to.checkpoint_message(checkpoint, job)

    async def PublishCheckpoint(self, request: pb.PublishCheckpointRequest, context: Any) -> registry_pb2.ModelVersion:
        """Publishes a checkpoint."""
        command = operations.PublishCheckpoint(
            current().project,
            request.checkpoint,
            request.model_name,
            request.suffix,
            request.request_id,
            request_digest(request),
        )
        return await operations.publish_checkpoint(self._desk, command)

    async def _get(self, ref: str) -> pb.Job:
        return await self._shown(await self._desk.engine.job(current().project, ref))

    async def _shown(self, job: Job) -> pb.Job:
        return (await self._all((job,)))[0]

    async def _all(self, jobs: Sequence[Job]) -> list[pb.Job]:
        """Jobs with their progress and cost."""
        seen = await queries.see(self._desk, jobs)
        return [to.job_message(one.job, one.progress, one.values, one.run_seconds) for one in seen]


def _wish(request: pb.CreateJobRequest) -> CreateJob[Job]:
    draft = to.draft_of(request.job, current().project)
    digest = to.spec_digest(request.job, draft)
    return CreateJob(draft, digest, "CreateJob", request.request_id, request_digest(request))


class TrainingInternalServicer(internal_pb2_grpc.TrainingInternalServiceServicer):
    """What other services ask."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def ResolveCheckpoint(
        self, request: internal_pb2.ResolveCheckpointRequest, context: Any
    ) -> internal_pb2.ResolveCheckpointResponse:
        """Where the servable adapter of a checkpoint is."""
        checkpoint, job = await queries.get_checkpoint(self._desk, current().project, request.checkpoint)
        return to.resolved_message(checkpoint, job)
