"""What every request carries through the gateway's pieces."""

import random
from collections.abc import Mapping

import grpc
from aiohttp import web

Metadata = tuple[tuple[str, str], ...]
Channels = Mapping[str, grpc.aio.Channel]
"""The channels to the services, by their names; without interceptors: calls bring their trace and deadline."""
REQUEST_ID = web.RequestKey("request_id", str)
"""Where a request keeps its id."""


def new_request_id() -> str:
    """Return an id for an answer's `x-request-id`: it need not be hard to guess, and it is made for every call."""
    return f"req_{random.getrandbits(128):032x}"


def address_of(request: web.Request) -> str:
    """Return the address of the peer, without trust in any forwarding header."""
    return request.remote or "127.0.0.1"
