"""Web pages that may call the gateway from a browser: its question before a call, and the headers of every answer."""

from aiohttp import web

METHODS = "GET, HEAD, POST, PATCH, DELETE"
MAX_AGE_SECONDS = 600


class Cors:
    """The origins that are allowed: a page is one of them, or its browser keeps every answer from it."""

    def __init__(self, origins: str) -> None:
        """`origins`: separated by commas; `*` is all. Keys are no cookies: no page has one that was not given to it."""
        self._origins = frozenset(origin.strip().lower() for origin in origins.split(",") if origin.strip())

    def preflight(self, request: web.Request) -> web.Response | None:
        """Answer the question whether a page may make a call, which has no key; None: it is none, or from elsewhere."""
        asked = request.headers.get("Access-Control-Request-Method")
        if request.method != "OPTIONS" or asked is None or not self._allows(request):
            return None
        headers = {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", "authorization"),
            "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
        }
        return web.Response(status=204, headers=headers)

    def mark(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Let a page of an allowed origin read an answer, an error and a stream too."""
        if not self._origins:
            return
        response.headers["Vary"] = "Origin"
        if self._allows(request):
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Access-Control-Expose-Headers"] = "*"

    def _allows(self, request: web.BaseRequest) -> bool:
        origin = request.headers.get("Origin", "").lower()
        return bool(origin) and (origin in self._origins or "*" in self._origins)
