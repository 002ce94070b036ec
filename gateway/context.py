"""What every request carries through the gateway's pieces."""

import random
from collections.abc import Iterable, Mapping

import grpc
from aiohttp import web

from services.chassis.errors import Invalid

Metadata = tuple[tuple[str, str], ...]
Channels = Mapping[str, grpc.aio.Channel]
"""The channels to the services, by their names; without interceptors: calls bring their trace and deadline."""
REQUEST_ID = web.RequestKey("request_id", str)
"""Where a request keeps its id."""
ADDRESS = web.RequestKey("address", str)
"""Where a request keeps the address of its caller, as the door has read it."""


_SINGLE = frozenset(
    {
        "authorization",
        "idempotency-key",
        "if-match",
        "last-event-id",
        "modelry-project",
        "openai-project",
        "x-api-key",
    }
)


def refuse_repeated(names: Iterable[str]) -> None:
    """Refuse a call with two headers of one name where only one can count. Raises: Invalid.

    `names` are those of all headers as they came; the keys of a multi-dict are each of them once.
    """
    seen: set[str] = set()
    for name in map(str.lower, names):
        if name in seen and name in _SINGLE:
            raise Invalid(f"The header {name} is given twice; give it once.", field=name)
        seen.add(name)


class ClientLeft(Exception):
    """The client closed its connection: there is nobody to answer."""


def new_request_id() -> str:
    """Return an id for an answer's `x-request-id`: it need not be hard to guess, and it is made for every call."""
    return f"req_{random.getrandbits(128):032x}"


def text_of(headers: Mapping[str, str], name: str) -> str:
    """Return a header that is handed on, or nothing. Raises: Invalid: its bytes are no UTF-8."""
    value = headers.get(name, "")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Invalid(f"The header {name} is not valid UTF-8.", field=name) from error
    return value
