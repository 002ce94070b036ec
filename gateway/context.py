"""What every request carries through the gateway's pieces."""

from __future__ import annotations

from aiohttp import web

from services.chassis.ids import new_id

REQUEST_ID = web.RequestKey("request_id", str)
"""Where a request keeps its id."""


def new_request_id() -> str:
    """An id for an answer's `x-request-id`."""
    return new_id("req_")


def address_of(request: web.Request) -> str:
    """The address of the peer, without trust in any forwarding header."""
    return request.remote or "127.0.0.1"
