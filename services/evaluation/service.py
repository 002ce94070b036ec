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
from services.chassis.errors import Invalid
from services.evaluation import messages as to
from services.evaluation.operations import evaluations, results, stopwords
from services.evaluation.operations.context import Desk

_CHANGEABLE = ("title", "metadata")


class EvaluationServicer(evaluation_pb2_grpc.EvaluationServiceServicer):
    """What the doors offer."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateEvaluation(self, request: pb.CreateEvaluationRequest, context: Any) -> pb.Evaluation:
        """Makes an evaluation."""
        return to.evaluation_message(await evaluations.create_evaluation(self._desk, _wish(request)))

    async def QuoteEvaluation(self, request: pb.CreateEvaluationRequest, context: Any) -> common_pb2.Quote:
        """Says what it would cost."""
        return await evaluations.quote_evaluation(self._desk, _wish(request))

    async def GetEvaluation(self, request: pb.GetEvaluationRequest, context: Any) -> pb.Evaluation:
        """One evaluation."""
        found = await evaluations.get_evaluation(self._desk, current().project, request.evaluation)
        return to.evaluation_message(found)

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
        paths = _mask(list(request.update_mask.paths)) or [name for name in _CHANGEABLE if getattr(wanted, name)]
        command = evaluations.UpdateEvaluation(
            current().project,
            wanted.id or wanted.name,
            wanted.title if "title" in paths else None,
            dict(wanted.metadata) if "metadata" in paths else None,
            wanted.etag,
        )
        return to.evaluation_message(await evaluations.update_evaluation(self._desk, command, now()))

    async def DeleteEvaluation(self, request: pb.DeleteEvaluationRequest, context: Any) -> Empty:
        """Removes an evaluation."""
        await evaluations.delete_evaluation(self._desk, current().project, request.evaluation)
        return Empty()

    async def StopEvaluation(self, request: pb.StopEvaluationRequest, context: Any) -> pb.Evaluation:
        """Stops an evaluation."""
        stopped = await evaluations.stop_evaluation(self._desk, current().project, request.evaluation, now())
        return to.evaluation_message(stopped)

    async def WatchEvaluation(self, request: pb.WatchEvaluationRequest, context: Any) -> AsyncIterator[pb.Evaluation]:
        """An evaluation as it changes."""
        project = current().project
        async for seen in self._desk.engine.watch(project, request.evaluation, request.after_version):
            yield to.evaluation_message(await evaluations.view(self._desk, seen))

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


def _wish(request: pb.CreateEvaluationRequest) -> evaluations.CreateEvaluation:
    return evaluations.CreateEvaluation(
        draft=to.draft_of(request.evaluation, current().project, now()),
        spec_digest=request_digest(to.spec_of(request.evaluation)),
        request_id=request.request_id,
        request_digest=request_digest(request),
    )


def _mask(paths: list[str]) -> list[str]:
    """The fields to change. Raises: Invalid: one of them cannot be changed."""
    ignored = ("id", "name", "etag")
    for path in paths:
        if path not in (*_CHANGEABLE, *ignored):
            raise Invalid(f"{path!r} cannot be changed: only {', '.join(_CHANGEABLE)}", field=f"evaluation.{path}")
    return paths
