"""gRPC methods: message -> use case -> message."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf.empty_pb2 import Empty

from modelry.common.v1 import common_pb2
from modelry.evaluation.v1 import evaluation_pb2 as pb
from modelry.evaluation.v1 import evaluation_pb2_grpc
from services.chassis.auth import current
from services.chassis.clock import now
from services.chassis.data import PageQuery, request_digest
from services.chassis.jobs import CreateJob
from services.chassis.proto_values import labels_update_of
from services.evaluation import messages as to
from services.evaluation.benchmarks.presets import PRESETS
from services.evaluation.domain import Evaluation
from services.evaluation.operations import results, stopwords
from services.evaluation.operations.context import ServiceContext


class EvaluationServicer(evaluation_pb2_grpc.EvaluationServiceServicer):
    """Serve the public methods of evaluation; the protos say what each does."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def CreateEvaluation(self, request: pb.CreateEvaluationRequest, call: Any) -> pb.Evaluation:
        return await self._shown(await self._context.verbs.create(_create_command(request)))

    async def QuoteEvaluation(self, request: pb.CreateEvaluationRequest, call: Any) -> common_pb2.Quote:
        return await self._context.verbs.quote(_create_command(request))

    async def GetEvaluation(self, request: pb.GetEvaluationRequest, call: Any) -> pb.Evaluation:
        return await self._get(request.evaluation)

    async def ListEvaluations(self, request: pb.ListEvaluationsRequest, call: Any) -> pb.ListEvaluationsResponse:
        page = await self._context.engine.jobs(current().project, PageQuery.of(request))
        return pb.ListEvaluationsResponse(evaluations=await self._all(page.items), next_page_token=page.next_page_token)

    async def UpdateEvaluation(self, request: pb.UpdateEvaluationRequest, call: Any) -> pb.Evaluation:
        command = await labels_update_of(request, self._get)
        return await self._shown(await self._context.verbs.update(command))

    async def DeleteEvaluation(self, request: pb.DeleteEvaluationRequest, call: Any) -> Empty:
        await self._context.verbs.delete(current().project, request.evaluation)
        self._context.garbage.kick()
        return Empty()

    async def StopEvaluation(self, request: pb.StopEvaluationRequest, call: Any) -> pb.Evaluation:
        return await self._shown(await self._context.verbs.stop(current().project, request.evaluation))

    async def WatchEvaluation(self, request: pb.WatchEvaluationRequest, call: Any) -> AsyncIterator[pb.Evaluation]:
        project = current().project
        async for evaluation in self._context.engine.watch(project, request.evaluation, request.after_version):
            yield await self._shown(evaluation)

    async def ReadEvaluationLogs(
        self, request: pb.ReadEvaluationLogsRequest, call: Any
    ) -> AsyncIterator[pb.EvaluationLogLine]:
        project = current().project
        async for attempt, line in self._context.engine.logs(project, request.evaluation, request.follow):
            yield pb.EvaluationLogLine(attempt=attempt, text=line)

    async def GetReport(self, request: pb.GetReportRequest, call: Any) -> pb.Report:
        return to.report_message(await results.get_report(current().project, request.evaluation, self._context))

    async def ListSamples(self, request: pb.ListSamplesRequest, call: Any) -> pb.ListSamplesResponse:
        page = await results.list_samples(current().project, request.evaluation, PageQuery.of(request), self._context)
        return pb.ListSamplesResponse(
            samples=[to.sample_message(one) for one in page.items], next_page_token=page.next_page_token
        )

    async def ListBenchmarks(self, request: pb.ListBenchmarksRequest, call: Any) -> pb.ListBenchmarksResponse:
        return pb.ListBenchmarksResponse(benchmarks=[to.benchmark_message(one) for _, one in sorted(PRESETS.items())])

    async def GetBenchmark(self, request: pb.GetBenchmarkRequest, call: Any) -> pb.Benchmark:
        return to.benchmark_message(results.get_benchmark(request.benchmark))

    async def CreateStopwordList(self, request: pb.CreateStopwordListRequest, call: Any) -> pb.StopwordList:
        command = stopwords.CreateStopwords(
            current().project,
            request.stopword_list.name,
            tuple(request.stopword_list.words),
            request.request_id,
            request_digest(request),
        )
        return to.stopwords_message(await stopwords.create_stopwords(command, self._context, now()))

    async def GetStopwordList(self, request: pb.GetStopwordListRequest, call: Any) -> pb.StopwordList:
        return to.stopwords_message(
            await stopwords.get_stopwords(current().project, request.stopword_list, self._context)
        )

    async def ListStopwordLists(self, request: pb.ListStopwordListsRequest, call: Any) -> pb.ListStopwordListsResponse:
        page = await stopwords.list_stopwords(current().project, PageQuery.of(request), self._context)
        return pb.ListStopwordListsResponse(
            stopword_lists=[to.stopwords_message(one, words=False) for one in page.items],
            next_page_token=page.next_page_token,
        )

    async def DeleteStopwordList(self, request: pb.DeleteStopwordListRequest, call: Any) -> Empty:
        await stopwords.delete_stopwords(current().project, request.stopword_list, self._context)
        return Empty()

    async def _get(self, ref: str) -> pb.Evaluation:
        return await self._shown(await self._context.engine.job(current().project, ref))

    async def _shown(self, evaluation: Evaluation) -> pb.Evaluation:
        return (await self._all((evaluation,)))[0]

    async def _all(self, jobs: Sequence[Evaluation]) -> list[pb.Evaluation]:
        """Return evaluations with their progress and cost."""
        return [to.evaluation_message(view) for view in await self._context.engine.views(jobs)]


def _create_command(request: pb.CreateEvaluationRequest) -> CreateJob[Evaluation]:
    return CreateJob(
        draft=to.draft_of(request.evaluation, current().project, now()),
        spec_digest=request_digest(to.spec_of(request.evaluation)),
        method="CreateEvaluation",
        request_id=request.request_id,
        request_digest=request_digest(request),
    )
