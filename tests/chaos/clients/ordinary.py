"""A client that behaves well: small calls one after another, streams to their end, and a watch that it keeps."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp

MOST_SECONDS = 30.0
PAUSE_SECONDS = 0.05
STREAMED_TOKENS = 48


@dataclass
class Times:
    """What calls took, by kind, and what was wrong with others."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)

    def mean(self, kind: str) -> float:
        """What a call of a kind took."""
        return statistics.fmean(self.seconds[kind])

    def p99(self, kind: str) -> float:
        """What 99 of 100 calls of a kind did not exceed."""
        ordered = sorted(self.seconds[kind])
        return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


class Ordinary:
    """One client with a key; open it with `async with`."""

    KINDS = ("health", "models", "deployment", "chat", "stream")

    def __init__(self, address: str, key: str, model: str, deployment_id: str) -> None:
        self._address, self._model, self._deployment = address, model, deployment_id
        self._headers = {"Authorization": f"Bearer {key}"}
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Ordinary:
        timeout = aiohttp.ClientTimeout(total=MOST_SECONDS)
        self._session = aiohttp.ClientSession(self._address, headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def work(self, until: Awaitable[object]) -> Times:
        """Call, all kinds beside each other, until something has happened."""
        times = Times()
        calls: dict[str, Callable[[], Awaitable[str]]] = {
            "health": lambda: self._get("/healthz"),
            "models": lambda: self._get("/v1/models"),
            "deployment": lambda: self._get(f"/api/v1/deployments/{self._deployment}"),
            "chat": self._chat,
            "stream": self._stream,
        }
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as working:
            for kind in self.KINDS:
                working.create_task(_repeat(kind, calls[kind], times, enough))
            await until
            enough.set()  # a call under way goes on to its end: it may be one that hangs
        return times

    async def _get(self, path: str) -> str:
        async with self._session.get(path) as answer:
            return "" if answer.status == 200 and await answer.read() else f"{answer.status} {await answer.text()}"

    async def _chat(self) -> str:
        async with self._session.post("/v1/chat/completions", json=self._question(4)) as answer:
            text = await answer.text()
        return "" if answer.status == 200 and json.loads(text)["choices"] else f"{answer.status} {text}"

    async def _stream(self) -> str:
        question = {**self._question(STREAMED_TOKENS), "stream": True}
        async with self._session.post("/v1/chat/completions", json=question) as answer:
            text = await answer.text()
        return "" if text.endswith("data: [DONE]\n\n") else f"{answer.status}: the stream ends {text[-300:]!r}"

    def _question(self, tokens: int) -> dict[str, object]:
        said = [{"role": "user", "content": "Say 3"}]
        return {"model": self._model, "messages": said, "max_tokens": tokens, "ignore_eos": True}


async def _repeat(kind: str, call: Callable[[], Awaitable[str]], times: Times, enough: asyncio.Event) -> None:
    while not enough.is_set():
        begun = time.perf_counter()
        try:
            wrong = await call()
        except (aiohttp.ClientError, TimeoutError) as error:
            wrong = repr(error)
        times.seconds[kind].append(time.perf_counter() - begun)
        if wrong:
            times.wrong.append(f"{kind}: {wrong[:500]}")
        await asyncio.sleep(PAUSE_SECONDS)


class Watch:
    """A watch of data sets' events that stays open; open it with `async with`."""

    def __init__(self, address: str, key: str) -> None:
        self._address, self._headers = address, {"Authorization": f"Bearer {key}"}

    async def __aenter__(self) -> Watch:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        url = f"{self._address}/api/v1/events:watch"
        self._answer = await self._session.get(url, headers=self._headers, params={"resource": "dataset"})
        assert self._answer.status == 200, await self._answer.text()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def hears(self, resource_id: str) -> bool:
        """Whether an event of a resource comes; False when the stream ends, or says nothing of it for long."""
        try:
            async with asyncio.timeout(MOST_SECONDS):
                async for line in self._answer.content:
                    if resource_id.encode() in line:
                        return True
        except (aiohttp.ClientError, TimeoutError):
            pass
        return False
