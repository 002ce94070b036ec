"""The OpenAI-compatible API, `/v1`: models, chat and text completions; anything else is refused in OpenAI's words."""

import time
from urllib.parse import unquote

from aiohttp import web

from gateway import transcoder
from gateway.authentication import Authenticator
from gateway.context import ADDRESS, refuse_repeated
from gateway.proxy import Proxy
from gateway.refusals import ModelNotFoundHere
from gateway.routes import RouteView
from services.chassis.errors import NotFound
from services.clients.records import KeyRecord

STARTED = int(time.time())


class OpenAiApi:
    """Answers `/v1`."""

    def __init__(self, authenticator: Authenticator, routes: RouteView, proxy: Proxy) -> None:
        self._authenticator, self._routes, self._proxy = authenticator, routes, proxy

    async def infer(self, request: web.Request) -> web.StreamResponse:
        """Return a completion, by a replica."""
        return await self._proxy.handle(request, *await self._caller(request))

    async def models(self, request: web.Request) -> web.StreamResponse:
        """Return all that this key can call now, or one of them; names may hold slashes, raw or as %2F."""
        key, project = await self._caller(request)
        entries = {
            name: {"id": name, "object": "model", "created": STARTED, "owned_by": target.route.project}
            for name, target in self._routes.callable_names(project)
            if key.may_call(*target.names)
        }
        wanted = unquote(request.rel_url.raw_path.removeprefix("/v1/models").lstrip("/"))
        if not wanted:
            return web.json_response({"object": "list", "data": [entries[name] for name in sorted(entries)]})
        if wanted not in entries:
            raise ModelNotFoundHere.of(wanted)
        return web.json_response(entries[wanted])

    async def unknown(self, request: web.Request) -> web.StreamResponse:
        """Refuse any other path."""
        path = request.rel_url.raw_path
        raise NotFound(f"Unknown request URL: {request.method} {path}{transcoder.hint(path)}", reason="UNKNOWN_URL")

    async def _caller(self, request: web.Request) -> tuple[KeyRecord, str]:
        """Return the key of a request and the project that it is in. Raises: ModelryError."""
        refuse_repeated(name for name, _ in request.headers.items())
        key = self._authenticator.key(request.headers, request[ADDRESS])
        return key, await self._authenticator.project(key, request.headers)
