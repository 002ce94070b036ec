"""What every request carries through the gateway's pieces."""

from __future__ import annotations

import random

from aiohttp import web

REQUEST_ID = web.RequestKey("request_id", str)
"""Where a request keeps its id."""


def new_request_id() -> str:
    """Return an id for an answer's `x-request-id`: it need not be hard to guess, and it is made for every call."""
    return f"req_{random.getrandbits(128):032x}"


def address_of(request: web.Request) -> str:
    """Return the address of the peer, without trust in any forwarding header."""
    return request.remote or "127.0.0.1"
