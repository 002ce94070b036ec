"""HTTP requests as nobody sane sends them, from the protos and a seed: for tests that no such request is a 500."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from google.protobuf.descriptor import FieldDescriptor

from modelry.api_methods import Method, methods

TEXTS = (
    "",
    "a",
    "a" * 1001,
    "a" * 5000,
    "\0",
    "a\0b",
    "\ud800",
    "é世🙂",
    "1e400",
    "-1",
    "%",
    "../..",
    "'; --",
    "{",
    "true",
    "\n",
    "x@9" * 9,
)
NUMBERS = (0, 1, -1, 2**31, 2**32 + 1, 2**63, 2**64, -(2**80), 10**400, 0.5, 1e308, -1e-320)
PLAIN: tuple[object, ...] = (*TEXTS, *NUMBERS, None, True, False, [], {}, [[]], {"": {}})
QUERIES = (
    "",
    "1",
    "-1",
    "1e9",
    "9" * 5000,
    "true",
    "%ff",
    "%00",
    "a" * 1001,
    "a%00b",
    "a%20=%20%271%27",
    "%ed%a0%80",
    "name%3D1",
    "%2C%2C",
)
HEADERS = ("Idempotency-Key", "Last-Event-ID", "modelry-project", "OpenAI-Project", "traceparent", "content-type")
VALUES = (b"", b"\xff", b"a", b"9" * 40, b"-1", b"00-" + b"0" * 32 + b"-0-0", b"multipart/form-data", b"\xc3\xa9")
DEEP = (b"[" * 50_000, b'{"a":' * 50_000, b'{"title": ' + b"1" * 5000 + b"}", b"\xff\xfe", b"nul", b'{"a":1,"a":2}')
MOST_DEPTH = 4


def requests(count: int, seed: int, authorization: str) -> Iterator[bytes]:
    """Yield requests, as bytes on a connection that is closed after the answer."""
    chance = random.Random(seed)
    known = methods()
    for _ in range(count):
        yield _request(chance.choice(known), chance, authorization)


def _request(method: Method, chance: random.Random, authorization: str) -> bytes:
    verb = method.verb if chance.random() < 0.95 else chance.choice(("GET", "POST", "PATCH", "PUT", "DELETE"))
    body = _body(method, chance)
    path = method.template
    while "{" in path:
        head, _, tail = path.partition("{")
        path = head + _word(chance) + tail.partition("}")[2]
    fields = [field.name for field in method.request.DESCRIPTOR.fields]
    query = "&".join(
        f"{chance.choice([*fields, 'nothing'])}={chance.choice(QUERIES)}" for _ in range(chance.choice((0, 0, 1, 2)))
    )
    lines = [f"{verb} {path}?{query} HTTP/1.1".encode(), b"Host: x", b"Connection: close"]
    lines += [f"authorization: {authorization}".encode(), f"Content-Length: {len(body)}".encode()]
    if chance.random() < 0.3:
        lines.append(chance.choice(HEADERS).encode() + b": " + chance.choice(VALUES))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _word(chance: random.Random) -> str:
    """Return what stands in a path for a name."""
    return quote(chance.choice(TEXTS)[:1500] or "none", safe="", errors="surrogatepass")


def _body(method: Method, chance: random.Random) -> bytes:
    """Return a body: of the method's own fields, bent, or none at all."""
    if not method.body or chance.random() < 0.1:
        return chance.choice(DEEP) if chance.random() < 0.3 else b""
    descriptor: Any = method.request.DESCRIPTOR
    if method.body != "*":
        descriptor = descriptor.fields_by_name[method.body].message_type
    raw = bytearray(json.dumps(_object(descriptor, chance, 0)).encode())
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        place = chance.randrange(len(raw) + 1)
        raw[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
    return bytes(raw)


def _object(descriptor: Any, chance: random.Random, depth: int) -> dict[str, object]:
    share = 0.4 / (depth + 1)
    return {field.name: _value(field, chance, depth) for field in descriptor.fields if chance.random() < share}


def _value(field: Any, chance: random.Random, depth: int) -> object:
    if chance.random() < 0.2:
        return chance.choice(PLAIN)
    below = field.message_type
    if below is not None and below.GetOptions().map_entry:
        return {chance.choice(TEXTS): chance.choice(PLAIN) for _ in range(2)}
    if field.is_repeated:
        return [_single(field, chance, depth) for _ in range(chance.randrange(4))]
    return _single(field, chance, depth)


def _single(field: Any, chance: random.Random, depth: int) -> object:
    if field.message_type is not None and depth < MOST_DEPTH:
        return _object(field.message_type, chance, depth + 1)
    if field.enum_type is not None:
        return chance.choice((field.enum_type.values[-1].name, 2**32 + 1, 1, "none"))
    return chance.choice(TEXTS if field.cpp_type == FieldDescriptor.CPPTYPE_STRING else NUMBERS)
