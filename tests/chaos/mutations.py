"""`python -m tests.chaos.mutations --count 40000 --seed 7`: requests that nobody sane sends, to an installation.

Prints how often each status was answered, and ends with 1 when one was 500. `make chaos` runs it.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from tests.mutations import requests
from tests.stack import Stack

SECONDS, AT_ONCE, SHOWN = 60, 8, 5


def main() -> int:
    """Run it; 0 when no request was a 500."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutations", description=__doc__)
    parser.add_argument("--count", type=int, default=40_000, help="how many requests")
    parser.add_argument("--seed", type=int, default=0, help="of what they hold; 0 takes one from the clock")
    arguments = parser.parse_args()
    seed = arguments.seed or time.time_ns() % 1_000_000
    print(f"seed {seed}, {arguments.count} requests", flush=True)
    with tempfile.TemporaryDirectory(prefix="modelry-mutations-") as folder:
        stack = Stack(Path(folder))
        try:
            stack.up()
            statuses, wrong = send_bent(stack, arguments.count, seed)
        finally:
            stack.down()
    print(json.dumps(dict(sorted(statuses.items())), indent=2))
    for request, answer in wrong[:SHOWN]:
        print(f"BROKEN: {request!r} was answered {answer!r}", file=sys.stderr)
    return 1 if wrong else 0


def send_bent(stack: Stack, count: int, seed: int) -> tuple[Counter[int], list[tuple[bytes, bytes]]]:
    """Send requests with the key of a project's owner. Returns: status -> how often; those that were a 500."""
    name = f"mutations-{uuid.uuid4().hex[:8]}"
    stack.client.create_project(project={"name": name})
    key = stack.client_of(name).create_api_key(api_key={"name": "bent", "role": "OWNER"})
    door = urlsplit(stack.http)

    def ask(request: bytes) -> tuple[bytes, bytes]:
        return request[:1500], _ask(door.hostname or "127.0.0.1", door.port or 80, request)

    statuses: Counter[int] = Counter()
    wrong = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for request, answer in threads.map(ask, requests(count, seed, f"Bearer {key.secret}")):
            statuses[int(answer[9:12])] += 1
            if answer[9:12] == b"500":
                wrong.append((request, answer))
    return statuses, wrong


def _ask(host: str, port: int, request: bytes) -> bytes:
    """Return the beginning of the answer: a watch has no end."""
    with socket.create_connection((host, port), SECONDS) as connection:
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer and (piece := connection.recv(65536)):
            answer += piece
        return answer


if __name__ == "__main__":
    raise SystemExit(main())
