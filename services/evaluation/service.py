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
from services.chassis.jobs import CreateJob, UpdateJob
from services.chassis.proto_values import changes_of
from services.evaluation import messages as to
from services.evaluation.domain import Evaluation
from services.evaluation.operations import evaluations, results, stopwords
from services.evaluation.operations.context import Desk


class EvaluationServicer(evaluation_pb2_grpc.EvaluationServiceServicer):
    """What the doors offer."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateEvaluation(self, request: pb.CreateEvaluationRequest, context: Any) -> pb.Evaluation:
        """Makes an evaluation."""
        return await self._shown(await self._desk.verbs.create(_wish(request)))

    async def QuoteEvaluation(self, request: pb.CreateEvaluationRequest, context: Any) -> common_pb2.Quote:
        """Says what it would cost."""
        return await self._desk.verbs.quote(_wish(request))

    async def GetEvaluation(self, request: pb.GetEvaluationRequest, context: Any) -> pb.Evaluation:
        """One evaluation."""
        return await self._get(request.evaluation)

    async def _get(self, ref: str) -> pb.Evaluation:
        return to.evaluation_message(await evaluations.get_evaluation(self._desk, current().project, ref))

    async def ListEvaluations(self, request: pb.ListEvaluationsRequest, context: Any) -> pb.ListEvaluationsResponse:
        """Evaluations."""
        query = PageQuery(request.page_size, request.page_token, request.filter, request.order_by)
        page = await evaluations.list_evaluations(self._desk, current().project, query)
        return pb.ListEvaluationsResponse(
            evaluations=[to.evaluation_message(one) for one in page.items], next_page_token=page.next_page_token
        )

    async def UpdateEvaluation(self, request: pb.UpdateEvaluationRequest, context: Any) -> pb.Evaluation:
        """Changes title or metadata."""
        wanted = request.evaluation
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

    async def DeleteEvaluation(self, request: pb.DeleteEvaluationRequest, context: Any) -> Empty:
        """Removes an evaluation."""
        await self._desk.verbs.delete(current().project, request.evaluation)
        self._desk.garbage.kick()
        return Empty()

    async def StopEvaluation(self, request: pb.StopEvaluationRequest, context: Any) -> pb.Evaluation:
        """Stops an evaluation."""
        return await self._shown(await self._desk.verbs.stop(current().project, request.evaluation))

    async def WatchEvaluation(self, request: pb.WatchEvaluationRequest, context: Any) -> AsyncIterator[pb.Evaluation]:
        """An evaluation as it changes."""
        project = current().project
        async for seen in self._desk.engine.watch(project, request.evaluation, request.after_version):
            yield await self._shown(seen)

    async def ReadEvaluationLogs(
        self, request: pb.ReadEvaluationLogsRequest, context: Any
    ) -> AsyncIterator[pb.EvaluationLogLine]:
        """The log of all attempts."""
        project = current().project
        async for attempt, line in self._desk.engine.logs(project, request.evaluation, request.follow):
            yield pb.EvaluationLogLine(attempt=attempt, text=line)

    async def GetReport(self, request: pb.GetReportRequest, context: Any) -> pb.Report:
        """The report."""
        found = await results.get_report(self._desk, current().project, request.evaluation)
        return to.report_message(found.content)

    async def ListSamples(self, request: pb.ListSamplesRequest, context: Any) -> pb.ListSamplesResponse:
        """Samples."""
        query = PageQuery(request.page_size, request.page_token, request.filter, request.order_by)
        page = await results.list_samples(self._desk, current().project, request.evaluation, query)
        return pb.ListSamplesResponse(
            samples=[to.sample_message(one) for one in page.items], next_page_token=page.next_page_token
        )

    async def ListBenchmarks(self, request: pb.ListBenchmarksRequest, context: Any) -> pb.ListBenchmarksResponse:
        """Preset benchmarks, all on one page."""
        return pb.ListBenchmarksResponse(benchmarks=[to.benchmark_message(one) for one in results.list_benchmarks()])

    async def GetBenchmark(self, request: pb.GetBenchmarkRequest, context: Any) -> pb.Benchmark:
        """One preset benchmark."""
        return to.benchmark_message(results.get_benchmark(request.benchmark))

    async def CreateStopwordList(self, request: pb.CreateStopwordListRequest, context: Any) -> pb.StopwordList:
        """Makes a stop-word list."""
        command = stopwords.CreateStopwords(
            current().project,
            request.stopword_list.name,
            tuple(request.stopword_list.words),
            request.request_id,
            request_digest(request),
        )
        return to.stopwords_message(await stopwords.create_stopwords(self._desk, command, now()))

    async def GetStopwordList(self, request: pb.GetStopwordListRequest, context: Any) -> pb.StopwordList:
        """One stop-word list."""
        return to.stopwords_message(await stopwords.get_stopwords(self._desk, current().project, request.stopword_list))

    async def ListStopwordLists(
        self, request: pb.ListStopwordListsRequest, context: Any
    ) -> pb.ListStopwordListsResponse:
        """Stop-word lists, without their words."""
        query = PageQuery(request.page_size, request.page_token)
        page = await stopwords.list_stopwords(self._desk, current().project, query)
        return pb.ListStopwordListsResponse(
            stopword_lists=[to.stopwords_message(one, words=False) for one in page.items],
            next_page_token=page.next_page_token,
        )

    async def DeleteStopwordList(self, request: pb.DeleteStopwordListRequest, context: Any) -> Empty:
        """Removes a stop-word list."""
        await stopwords.delete_stopwords(self._desk, current().project, request.stopword_list)
        return Empty()

    async def _shown(self, evaluation: Evaluation) -> pb.Evaluation:
        """An evaluation with its progress and cost."""
        return to.evaluation_message(await evaluations.view(self._desk, evaluation))


def _wish(request: pb.CreateEvaluationRequest) -> CreateJob[Evaluation]:
    return CreateJob(
        draft=to.draft_of(request.evaluation, current().project, now()),
        spec_digest=request_digest(to.spec_of(request.evaluation)),
        method="CreateEvaluation",
        request_id=request.request_id,
        request_digest=request_digest(request),
    )
