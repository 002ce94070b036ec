"""2,000 requests that nobody sane sends, to the whole installation: none is an error that nobody foresaw."""

from __future__ import annotations

import socket
import uuid
from collections import Counter
from urllib.parse import urlsplit

import pytest

from tests.mutations import requests
from tests.stack import Stack

pytestmark = pytest.mark.contract

COUNT, SEED = 2000, 11
SECONDS = 60


def ask(host: str, port: int, request: bytes) -> bytes:
    """Return the beginning of the answer: a watch has no end."""
    with socket.create_connection((host, port), SECONDS) as connection:
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer and (piece := connection.recv(65536)):
            answer += piece
        return answer


def test_no_request_is_an_internal_error(stack: Stack) -> None:
    name = f"mutations-{uuid.uuid4().hex[:8]}"
    stack.client.create_project(project={"name": name})
    key = stack.client_of(name).create_api_key(api_key={"name": "bent", "role": "OWNER"})
    door = urlsplit(f"//{stack.http.removeprefix('http://')}")
    statuses: Counter[int] = Counter()
    wrong = []
    for request in requests(COUNT, SEED, f"Bearer {key.secret}"):
        answer = ask(door.hostname or "127.0.0.1", door.port or 80, request)
        statuses[int(answer[9:12])] += 1
        if answer[9:12] == b"500":
            wrong.append((request[:1500], answer))
    assert not wrong, f"{len(wrong)} of {COUNT}: {wrong[:5]}"
    assert {200, 400, 404} <= set(statuses)
