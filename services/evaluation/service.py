"""gRPC methods: message -> use case -> message."""

from __future__ import annotations

from collections.abc import AsyncIterator
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
from services.evaluation.domain import Evaluation
from services.evaluation.operations import evaluations, results, stopwords
from services.evaluation.operations.context import ServiceContext


class EvaluationServicer(evaluation_pb2_grpc.EvaluationServiceServicer):
    """The public methods; the protos say what each does."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def CreateEvaluation(self, request: pb.CreateEvaluationRequest, context: Any) -> pb.Evaluation:
        return await self._shown(await self._context.verbs.create(_wish(request)))

    async def QuoteEvaluation(self, request: pb.CreateEvaluationRequest, context: Any) -> common_pb2.Quote:
        return await self._context.verbs.quote(_wish(request))

    async def GetEvaluation(self, request: pb.GetEvaluationRequest, context: Any) -> pb.Evaluation:
        return await self._get(request.evaluation)

    async def _get(self, ref: str) -> pb.Evaluation:
        return to.evaluation_message(await evaluations.get_evaluation(self._context, current().project, ref))

    async def ListEvaluations(self, request: pb.ListEvaluationsRequest, context: Any) -> pb.ListEvaluationsResponse:
        page = await evaluations.list_evaluations(self._context, current().project, PageQuery.of(request))
        return pb.ListEvaluationsResponse(
            evaluations=[to.evaluation_message(one) for one in page.items], next_page_token=page.next_page_token
        )

    async def UpdateEvaluation(self, request: pb.UpdateEvaluationRequest, context: Any) -> pb.Evaluation:
        command = await labels_update_of(request, self._get)
        return await self._shown(await self._context.verbs.update(command))

    async def DeleteEvaluation(self, request: pb.DeleteEvaluationRequest, context: Any) -> Empty:
        await self._context.verbs.delete(current().project, request.evaluation)
        self._context.garbage.kick()
        return Empty()

    async def StopEvaluation(self, request: pb.StopEvaluationRequest, context: Any) -> pb.Evaluation:
        return await self._shown(await self._context.verbs.stop(current().project, request.evaluation))

    async def WatchEvaluation(self, request: pb.WatchEvaluationRequest, context: Any) -> AsyncIterator[pb.Evaluation]:
        project = current().project
        async for seen in self._context.engine.watch(project, request.evaluation, request.after_version):
            yield await self._shown(seen)

    async def ReadEvaluationLogs(
        self, request: pb.ReadEvaluationLogsRequest, context: Any
    ) -> AsyncIterator[pb.EvaluationLogLine]:
        project = current().project
        async for attempt, line in self._context.engine.logs(project, request.evaluation, request.follow):
            yield pb.EvaluationLogLine(attempt=attempt, text=line)

    async def GetReport(self, request: pb.GetReportRequest, context: Any) -> pb.Report:
        found = await results.get_report(self._context, current().project, request.evaluation)
        return to.report_message(found.content)

    async def ListSamples(self, request: pb.ListSamplesRequest, context: Any) -> pb.ListSamplesResponse:
        page = await results.list_samples(self._context, current().project, request.evaluation, PageQuery.of(request))
        return pb.ListSamplesResponse(
            samples=[to.sample_message(one) for one in page.items], next_page_token=page.next_page_token
        )

    async def ListBenchmarks(self, request: pb.ListBenchmarksRequest, context: Any) -> pb.ListBenchmarksResponse:
        return pb.ListBenchmarksResponse(benchmarks=[to.benchmark_message(one) for one in results.list_benchmarks()])

    async def GetBenchmark(self, request: pb.GetBenchmarkRequest, context: Any) -> pb.Benchmark:
        return to.benchmark_message(results.get_benchmark(request.benchmark))

    async def CreateStopwordList(self, request: pb.CreateStopwordListRequest, context: Any) -> pb.StopwordList:
        command = stopwords.CreateStopwords(
            current().project,
            request.stopword_list.name,
            tuple(request.stopword_list.words),
            request.request_id,
            request_digest(request),
        )
        return to.stopwords_message(await stopwords.create_stopwords(self._context, command, now()))

    async def GetStopwordList(self, request: pb.GetStopwordListRequest, context: Any) -> pb.StopwordList:
        return to.stopwords_message(
            await stopwords.get_stopwords(self._context, current().project, request.stopword_list)
        )

    async def ListStopwordLists(
        self, request: pb.ListStopwordListsRequest, context: Any
    ) -> pb.ListStopwordListsResponse:
        page = await stopwords.list_stopwords(self._context, current().project, PageQuery.of(request))
        return pb.ListStopwordListsResponse(
            stopword_lists=[to.stopwords_message(one, words=False) for one in page.items],
            next_page_token=page.next_page_token,
        )

    async def DeleteStopwordList(self, request: pb.DeleteStopwordListRequest, context: Any) -> Empty:
        await stopwords.delete_stopwords(self._context, current().project, request.stopword_list)
        return Empty()

    async def _shown(self, evaluation: Evaluation) -> pb.Evaluation:
        """An evaluation with its progress and cost."""
        return to.evaluation_message(await evaluations.view(self._context, evaluation))


def _wish(request: pb.CreateEvaluationRequest) -> CreateJob[Evaluation]:
    return CreateJob(
        draft=to.draft_of(request.evaluation, current().project, now()),
        spec_digest=request_digest(to.spec_of(request.evaluation)),
        method="CreateEvaluation",
        request_id=request.request_id,
        request_digest=request_digest(request),
    )
