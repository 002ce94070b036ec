"""What clients do who would like their tokens for nothing, and what honest ones do beside them."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from tests.chaos.gateway.books import Books, until

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
MOST_TOKENS = 200
ODD: list[dict[str, Any]] = [
    {"stream": "true"},
    {"stream": 1},
    {"stream": True, "stream_options": {"include_usage": "false"}},
    {"stream": True, "stream_options": {"include_usage": 0}},
    {"stream": True, "stream_options": []},
    {"stream": True, "n": "2"},
    {"stream": True, "stream_interval": 100_000},
]
"""Each is refused."""
HONEST: list[dict[str, Any]] = [
    {},
    {"stream": False},
    {"stream": None},
    {"stream": True},
    {"stream": True, "stream_options": None},
    {"stream": True, "stream_options": {"include_usage": False}},
    {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": False}},
    {"stream": True, "stream_options": {"include_usage": False, "continuous_usage_stats": True}},
    {"stream": True, "stream_interval": 7},
    {"stream": True, "max_tokens": 1},
    {"stream": True, "stop": ["a", "e"], "ignore_eos": False},
]
"""Each is answered to its end."""


class Trickster:
    """A client of one model; `left` are the ids of its streams that did not come to their end."""

    def __init__(self, session: aiohttp.ClientSession, model: str, key_id: str) -> None:
        self._session, self.model, self._key_id = session, model, key_id
        self.left: set[str] = set()

    def named(self, books: Books) -> dict[str, str]:
        """Which of its calls the gateway could not count whole, and why."""
        return {request: reason for request, key, reason in books.named() if key == self._key_id}

    async def ask(self, path: str = CHAT, **changes: Any) -> int:
        """Ask, and read all of the answer. Returns: its status."""
        async with self._session.post(path, json=self._question(path, **changes)) as answer:
            text = await answer.text()
            if answer.status == 200 and changes.get("stream"):
                assert text.endswith("data: [DONE]\n\n"), text[-500:]
            return answer.status

    async def leave_a_stream(self) -> None:
        """Leave when the first words are there."""
        async with self._session.post(CHAT, json=self._long()) as answer:
            assert answer.status == 200
            await answer.content.readany()
            self.left.add(answer.headers["x-request-id"])
            answer.close()

    async def leave_a_plain_call(self, books: Books) -> None:
        """Leave when the engine is at work."""
        before = books.counted()
        call = asyncio.create_task(self.ask(max_tokens=MOST_TOKENS))
        await asyncio.to_thread(until, lambda: books.counted() != before or call.done())
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    async def stream_until_cut(self, begun: asyncio.Barrier) -> None:
        """Say when the first words are there, and read on to whatever end the stream has."""
        async with self._session.post(CHAT, json=self._long()) as answer:
            assert answer.status == 200
            await answer.content.readany()
            await begun.wait()
            try:
                text = await answer.text()
            except aiohttp.ClientError:
                text = ""
            if not text.endswith("data: [DONE]\n\n"):
                self.left.add(answer.headers["x-request-id"])

    def _long(self) -> dict[str, Any]:
        return self._question(CHAT, stream=True, max_tokens=MOST_TOKENS)

    def _question(self, path: str, **changes: Any) -> dict[str, Any]:
        said = {"messages": [{"role": "user", "content": "Say 3"}]} if path == CHAT else {"prompt": "Say 3"}
        return {"model": self.model, "max_tokens": 16, "ignore_eos": True, **said, **changes}
