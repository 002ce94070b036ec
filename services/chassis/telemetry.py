"""Traces, metrics and logs of a process.

Every call has a trace id, which travels through gRPC metadata, NATS headers and job specs and stands in every log
line. Spans and metrics are recorded and sent (OTLP over HTTP) only where `otlp_endpoint` is set.
"""

import json
import logging
import random
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.chassis.masking import mask
from services.chassis.settings import Settings

_NAME = "modelry"
_propagator = TraceContextTextMapPropagator()
# Of its own: training seeds, saves and restores the global generator.
_ids = random.Random()  # noqa: S311 - ids, no secrets
_request_id: ContextVar[str] = ContextVar("modelry_request_id", default="")
_job_id: ContextVar[str] = ContextVar("modelry_job_id", default="")


class JsonFormatter(logging.Formatter):
    """One log record as one line of JSON, with the ids of the call or job that it belongs to, secrets masked."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, str] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        ids = {
            "trace_id": trace_id(),
            "request_id": getattr(record, "request_id", "") or _request_id.get(),
            "job_id": getattr(record, "job_id", "") or _job_id.get(),
        }
        line.update({key: value for key, value in ids.items() if value})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps({key: mask(value) for key, value in line.items()}, ensure_ascii=False)


def setup(service: str, settings: Settings) -> None:
    """Make this process log JSON lines to stderr, and send traces and metrics if an endpoint is set."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("nats", "botocore", "urllib3", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if settings.otlp_endpoint:
        _export(service, settings.otlp_endpoint.rstrip("/"))


def _export(service: str, endpoint: str) -> None:
    """Start the exporters. Imported here: they cost a third of a second, and most installations have no collector."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": f"{_NAME}-{service}"})
    traces = TracerProvider(resource=resource)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")))
    trace.set_tracer_provider(traces)
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics"))
    metrics.set_meter_provider(MeterProvider(resource=resource, metric_readers=[reader]))


def shutdown() -> None:
    """Send what is still held, before the process ends."""
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        close = getattr(provider, "shutdown", None)
        if close is not None:
            close()


def inject(headers: MutableMapping[str, str]) -> None:
    """Write the current trace into headers: of a call, a message or a job's spec."""
    _propagator.inject(headers)


def extract(headers: Mapping[str, str]) -> Context:
    """Return the trace that headers carry, or a new one that begins here."""
    context = _propagator.extract(headers, context=Context())
    if trace.get_current_span(context).get_span_context().is_valid:
        return context
    sampled = TraceFlags(TraceFlags.SAMPLED)
    fresh = SpanContext(_ids.getrandbits(128) or 1, _ids.getrandbits(64) or 1, is_remote=False, trace_flags=sampled)
    return trace.set_span_in_context(NonRecordingSpan(fresh), context)


def enter(headers: Mapping[str, str], name: str, kind: SpanKind = SpanKind.SERVER) -> trace.Span:
    """Go on with the trace in headers for the rest of this task, in a new span that the caller ends.

    Where nothing records spans, the trace is handed on without one.
    """
    parent = extract(headers)
    if not _records_spans():
        otel_context.attach(parent)
        return trace.get_current_span(parent)
    span = trace.get_tracer(_NAME).start_span(name, context=parent, kind=kind)
    otel_context.attach(trace.set_span_in_context(span, parent))
    return span


@contextmanager
def span(
    name: str, headers: Mapping[str, str] | None = None, kind: SpanKind = SpanKind.INTERNAL
) -> Iterator[trace.Span]:
    """Open a span around a block: below the current one, or below the one that headers carry.

    Where nothing records spans, the trace is handed on without one.
    """
    parent = extract(headers) if headers is not None else otel_context.get_current()
    if _records_spans():
        with trace.get_tracer(_NAME).start_as_current_span(name, parent, kind) as opened:
            yield opened
        return
    before = otel_context.attach(parent)
    try:
        yield trace.get_current_span(parent)
    finally:
        otel_context.detach(before)


def _records_spans() -> bool:
    return type(trace.get_tracer_provider()) is not trace.ProxyTracerProvider


def trace_id() -> str:
    """Return the current trace's id, 32 hexadecimal digits, or nothing outside of a trace."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def request_id() -> str:
    """Return the id of the request being answered, or nothing."""
    return _request_id.get()


def set_request_id(value: str) -> None:
    """Name the request for the rest of this task."""
    _request_id.set(value)


@contextmanager
def job_context(job_id: str) -> Iterator[None]:
    """Put a job's id in every log line of a block."""
    token = _job_id.set(job_id)
    try:
        yield
    finally:
        _job_id.reset(token)


def meter() -> metrics.Meter:
    """Return where counters and histograms are made; they cost nothing where no endpoint is set."""
    return metrics.get_meter(_NAME)
