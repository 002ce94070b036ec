"""gRPC methods: message -> use case -> message."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf.empty_pb2 import Empty

from modelry.common.v1 import common_pb2
from modelry.registry.v1 import registry_pb2
from modelry.training.v1 import internal_pb2, internal_pb2_grpc, training_pb2_grpc
from modelry.training.v1 import training_pb2 as pb
from services.chassis.auth import current
from services.chassis.data import PageQuery, request_digest
from services.chassis.jobs import CreateJob
from services.chassis.proto_values import labels_update_of
from services.training import messages as to
from services.training import operations, queries
from services.training.context import ServiceContext
from services.training.domain import Job


class TrainingServicer(training_pb2_grpc.TrainingServiceServicer):
    """Serve the public methods of training; the protos say what each does."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def CreateJob(self, request: pb.CreateJobRequest, call: Any) -> pb.Job:
        return await self._shown(await self._context.verbs.create(_create_command(request)))

    async def QuoteJob(self, request: pb.CreateJobRequest, call: Any) -> common_pb2.Quote:
        return await self._context.verbs.quote(_create_command(request))

    async def GetJob(self, request: pb.GetJobRequest, call: Any) -> pb.Job:
        return await self._get(request.job)

    async def ListJobs(self, request: pb.ListJobsRequest, call: Any) -> pb.ListJobsResponse:
        page = await self._context.engine.jobs(current().project, PageQuery.of(request))
        return pb.ListJobsResponse(jobs=await self._all(page.items), next_page_token=page.next_page_token)

    async def UpdateJob(self, request: pb.UpdateJobRequest, call: Any) -> pb.Job:
        command = await labels_update_of(request, self._get)
        return await self._shown(await self._context.verbs.update(command))

    async def DeleteJob(self, request: pb.DeleteJobRequest, call: Any) -> Empty:
        await self._context.verbs.delete(current().project, request.job)
        self._context.garbage.kick()
        return Empty()

    async def StopJob(self, request: pb.StopJobRequest, call: Any) -> pb.Job:
        return await self._shown(await self._context.verbs.stop(current().project, request.job))

    async def CloneJob(self, request: pb.CloneJobRequest, call: Any) -> pb.Job:
        old = await self._context.engine.job(current().project, request.job)
        draft = operations.clone_draft(old, request.name)
        command = CreateJob(draft, "", "CloneJob", request.request_id, request_digest(request))
        return await self._shown(await self._context.verbs.create(command))

    async def WatchJob(self, request: pb.WatchJobRequest, call: Any) -> AsyncIterator[pb.Job]:
        watched = (current().project, request.job, request.after_version, queries.is_over)
        async for job in self._context.engine.watch(*watched):
            yield await self._shown(job)

    async def ReadJobLogs(self, request: pb.ReadJobLogsRequest, call: Any) -> AsyncIterator[pb.LogLine]:
        async for attempt, line in self._context.engine.logs(current().project, request.job, request.follow):
            yield pb.LogLine(attempt=attempt, text=line)

    async def ReadJobMetrics(self, request: pb.ReadJobMetricsRequest, call: Any) -> AsyncIterator[pb.MetricPoint]:
        after = request.after_step or -1  # a validation before the first step stands at step 0
        points = queries.read_metrics(current().project, request.job, after, request.follow, self._context)
        async for point in points:
            yield pb.MetricPoint(step=point.step, values=point.values)

    async def ListCheckpoints(self, request: pb.ListCheckpointsRequest, call: Any) -> pb.ListCheckpointsResponse:
        job, page = await queries.list_checkpoints(current().project, request.job, PageQuery.of(request), self._context)
        messages = [to.checkpoint_message(checkpoint, job) for checkpoint in page.items]
        return pb.ListCheckpointsResponse(checkpoints=messages, next_page_token=page.next_page_token)

    async def GetCheckpoint(self, request: pb.GetCheckpointRequest, call: Any) -> pb.Checkpoint:
        checkpoint, job = await queries.get_checkpoint(current().project, request.checkpoint, self._context)
        return to.checkpoint_message(checkpoint, job)

    async def PublishCheckpoint(self, request: pb.PublishCheckpointRequest, call: Any) -> registry_pb2.ModelVersion:
        command = operations.PublishCheckpoint(
            current().project,
            request.checkpoint,
            request.model_name,
            request.suffix,
            request.request_id,
            request_digest(request),
        )
        return await operations.publish_checkpoint(command, self._context)

    async def _get(self, ref: str) -> pb.Job:
        return await self._shown(await self._context.engine.job(current().project, ref))

    async def _shown(self, job: Job) -> pb.Job:
        return (await self._all((job,)))[0]

    async def _all(self, jobs: Sequence[Job]) -> list[pb.Job]:
        """Return jobs with their progress and cost."""
        return [to.job_message(view) for view in await self._context.engine.views(jobs)]


def _create_command(request: pb.CreateJobRequest) -> CreateJob[Job]:
    draft = to.draft_of(request.job, current().project)
    digest = to.spec_digest(request.job, draft)
    return CreateJob(draft, digest, "CreateJob", request.request_id, request_digest(request))


class TrainingInternalServicer(internal_pb2_grpc.TrainingInternalServiceServicer):
    """Serve the methods that other services call; the protos say what each does."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def ResolveCheckpoint(
        self, request: internal_pb2.ResolveCheckpointRequest, call: Any
    ) -> internal_pb2.ResolveCheckpointResponse:
        checkpoint, job = await queries.get_checkpoint(current().project, request.checkpoint, self._context)
        return to.resolved_message(checkpoint, job)
