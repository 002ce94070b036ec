"""The HTTP server: pieces in order (errors and request id, then keys, route, proxy), and what is answered where."""

import logging
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

from aiohttp import web
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from gateway import errors, openapi
from gateway.administration import Administration
from gateway.body import expect_nothing
from gateway.context import REQUEST_ID, ClientLeft, new_request_id
from gateway.cors import Cors
from gateway.native import NativeApi
from gateway.openai import OpenAiApi
from gateway.paths import INFERENCE
from gateway.proxy import Proxy
from modelry.admin.v1.admin_pb2 import Health
from services.chassis import telemetry
from services.chassis.errors import ModelryError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = logging.getLogger(__name__)


class Metrics:
    """What `/metrics` shows of this process."""

    def __init__(self, proxy: Proxy) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter(
            "modelry_http_answers", "Answers by door and status.", ("door", "status"), registry=self.registry
        )
        self.letters = Gauge(
            "modelry_dead_letters", "Messages that wait for a replay.", ("service",), registry=self.registry
        )
        self._children: dict[tuple[str, int], Counter] = {}
        in_flight = Gauge("modelry_inference_in_flight", "Inference calls at replicas.", registry=self.registry)
        in_flight.set_function(lambda: float(sum(proxy.in_flight.values())))
        waiting = Gauge("modelry_inference_waiting", "Inference calls that wait for a place.", registry=self.registry)
        waiting.set_function(lambda: float(proxy.admission.waiting))
        self.registry.register(proxy.uncounted)

    def show_letters(self, health: Health) -> None:
        """Take over how many dead letters each service has; one that cannot say keeps its last number."""
        for one in health.services:
            if one.HasField("dead_letter_count"):
                self.letters.labels(one.service).set(one.dead_letter_count)

    def count(self, path: str, status: int) -> None:
        """Note one answer."""
        door = "native" if path.startswith("/api/") else "openai" if path.startswith("/v1") else "other"
        child = self._children.get((door, status))
        if child is None:
            child = self._children[door, status] = self.answers.labels(door, str(status))
        child.inc()


def build_app(
    native: NativeApi, openai: OpenAiApi, proxy: Proxy, administration: Administration, cors_origins: str = ""
) -> web.Application:
    """Return the application; its parts are started and stopped by `__main__`."""
    metrics, cors = Metrics(proxy), Cors(cors_origins)
    app = web.Application()

    def guarded(handler: Handler) -> dict[str, Any]:
        return {"handler": _edge(metrics, cors, handler), "expect_handler": expect_nothing}

    async def mark(request: web.BaseRequest, response: web.StreamResponse) -> None:
        response.headers.update(errors.OWN_HEADERS)
        cors.mark(request, response)

    app.on_response_prepare.append(mark)
    app.add_routes(
        [
            *(web.post(path, **guarded(openai.infer)) for path in INFERENCE),
            web.get("/v1/models", **guarded(openai.models)),
            web.get("/v1/models/{name:(?s:.+)}", **guarded(openai.models)),
            web.route("*", "/v1", **guarded(openai.unknown)),
            web.route("*", "/v1/{rest:(?s:.*)}", **guarded(openai.unknown)),
            web.get("/", **guarded(_front)),
            web.get("/healthz", **guarded(_healthz)),
            web.get("/readyz", **guarded(administration.readyz)),
            web.get("/metrics", **guarded(_metrics_handler(metrics, administration))),
            web.get("/openapi.json", **guarded(_openapi)),
            web.get("/docs", **guarded(_docs)),
            web.route("*", "/{rest:(?s:.*)}", **guarded(native.handle)),
        ]
    )
    return app


def _edge(metrics: Metrics, cors: Cors, handler: Handler) -> Handler:
    """Return a handler with what every answer gets. Around each handler: a middleware costs a call 10 µs more."""

    async def edge(request: web.Request) -> web.StreamResponse:
        """Give the request an id and a span, and turn whatever goes wrong into its door's envelope."""
        request[REQUEST_ID] = request_id = new_request_id()
        try:
            with telemetry.span(f"HTTP {request.method}", request.headers, SpanKind.SERVER):
                response = cors.preflight(request) or await handler(request)
        except ClientLeft:
            return web.Response(status=499)
        except web.HTTPException:
            raise
        except ModelryError as error:
            response = errors.respond(error, request)
        except Exception:
            _log.exception("%s %s failed", request.method, request.path, extra={"request_id": request_id})
            response = errors.respond(ModelryError("internal"), request)
        if not response.prepared:
            response.headers.setdefault("x-request-id", request_id)
        metrics.count(request.path, response.status)
        return response

    return edge


async def _front(request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "/docs"})


async def _healthz(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _metrics_handler(metrics: Metrics, administration: Administration) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        metrics.show_letters(await administration.health())
        return web.Response(body=generate_latest(metrics.registry), content_type="text/plain")

    return handler


async def _openapi(request: web.Request) -> web.Response:
    return web.Response(body=openapi.written(), content_type="application/json", charset="utf-8")


async def _docs(request: web.Request) -> web.Response:
    page = resources.files("gateway").joinpath("docs.html").read_text("utf-8")
    return web.Response(text=page, content_type="text/html")
