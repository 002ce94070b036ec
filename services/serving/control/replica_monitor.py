"""Asks one replica over HTTP: does it get on, are its tokens the trainer's, which adapters has it."""

import asyncio
import json
import logging
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from services.serving.domain.progress import ASK_AFTER, Counters, Progress
from services.serving.settings import ServingSettings

_STARTING_SECONDS = 0.3
_ASK_SECONDS = 30.0
_HEALTH_SECONDS = 10.0
_METRIC = re.compile(r"^(vllm:\w+)(?:\{.*\})? (\S+)$", re.MULTILINE)
_log = logging.getLogger(__name__)


class EngineRefused(Exception):
    """The engine answered that it will not; the message is its own."""


class Engine:
    """The HTTP interface of one engine. Raises: aiohttp.ClientError, TimeoutError, EngineRefused."""

    def __init__(self, session: aiohttp.ClientSession, address: str, secret: str) -> None:
        self._session, self._url = session, f"http://{address}"
        self._headers = {"Authorization": f"Bearer {secret}"}

    async def healthy(self) -> bool:
        """Return whether it says that it is well."""
        timeout = aiohttp.ClientTimeout(total=_HEALTH_SECONDS)
        async with self._session.get(f"{self._url}/health", headers=self._headers, timeout=timeout) as answer:
            return answer.status == 200

    async def counters(self) -> Counters:
        """Return what it says of its work; what it does not say is 0."""
        sums: defaultdict[str, float] = defaultdict(float)
        for name, value in _METRIC.findall(await self._ask("GET", "/metrics")):
            sums[name] += float(value)
        return Counters(
            prompt_tokens=sums["vllm:prompt_tokens_total"],
            generated_tokens=sums["vllm:generation_tokens_total"],
            running=sums["vllm:num_requests_running"],
            waiting=sums["vllm:num_requests_waiting"],
            cache_used=sums["vllm:kv_cache_usage_perc"],
        )

    async def models(self) -> set[str]:
        """Return every name that it answers to: the weights' and the adapters'."""
        answer = await self._ask("GET", "/v1/models")
        return {str(model["id"]) for model in answer["data"]}

    async def load_adapter(self, name: str, path: Path) -> None:
        """Put an adapter on."""
        await self._ask("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})

    async def unload_adapter(self, name: str) -> None:
        """Take an adapter off."""
        await self._ask("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    async def token_ids(self, model: str, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return the tokens of a conversation after which it would answer."""
        body = {"model": model, "messages": list(messages), "add_generation_prompt": True}
        answer = await self._ask("POST", "/tokenize", body)
        return [int(token) for token in answer["tokens"]]

    async def generate(self, model: str, token_ids: Sequence[int], seconds: float = _ASK_SECONDS) -> int:
        """Let it write one token; return how many it wrote."""
        body = {"model": model, "prompt": list(token_ids), "max_tokens": 1, "temperature": 0}
        answer = await self._ask("POST", "/v1/completions", body, seconds)
        return int(answer["usage"]["completion_tokens"])

    async def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, seconds: float = _ASK_SECONDS
    ) -> Any:
        timeout = aiohttp.ClientTimeout(total=seconds)
        request = self._session.request(method, self._url + path, json=body, headers=self._headers, timeout=timeout)
        async with request as answer:
            text = await answer.text()
            if answer.status != 200:
                raise EngineRefused(f"The engine answered {answer.status} to {path}: {text[:300]}")
            try:
                return json.loads(text)
            except ValueError:
                return text


class ReplicaMonitor:
    """What is known of one replica, kept up to date by a task of its own.

    Attributes:
        probed: it has passed the probe: healthy, required adapters, right tokens, one generation.
        problem: why it never will, in words.
        progress: when it last got on (monotonic).
        names: names that it answers to; None before it was asked.
        refused: adapters that it would not take -> its words.
    """

    def __init__(self, engine: Engine, model: str, samples: Sequence[Mapping[str, Any]], ready: bool) -> None:
        """`ready`: it was probed by an earlier process and only needs to stay well."""
        self._engine, self._model, self._samples = engine, model, samples
        self._prompt: Sequence[int] = samples[0]["token_ids"] if samples else [1]
        self.probed, self.problem = ready, ""
        self.progress = Progress(time.monotonic())
        self.names: set[str] | None = None
        self.refused: dict[str, str] = {}
        self._wanted: dict[str, Path] = {}
        self._required: set[str] = set()
        self._known: set[str] = set()
        self._kick = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, settings: ServingSettings, changed: Callable[[], None]) -> None:
        """Begin to ask; `changed` is called when there is news."""
        self._task = asyncio.create_task(self._run(settings, changed))

    def stop(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()

    def want(self, adapters: Mapping[str, Path], required: set[str], known: set[str]) -> None:
        """Tell which adapters it shall have.

        Args:
            adapters: engine name -> folder of the adapters whose files are here.
            required: names without which it is not ready.
            known: every name that may stay; any other is taken off.
        """
        wanted = (dict(adapters), set(required), set(known))
        if wanted != (self._wanted, self._required, self._known):
            self._wanted, self._required, self._known = wanted
            self.refused.clear()
            self._kick.set()

    async def _run(self, settings: ServingSettings, changed: Callable[[], None]) -> None:
        while True:
            before = (self.probed, self.problem, self.names, dict(self.refused))
            self._kick.clear()
            try:
                await self._tick(settings.unhealthy_seconds)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                _log.debug("a replica does not answer: %r", error)
            except EngineRefused as error:
                _log.warning("a replica refuses: %s", error)
            except Exception:  # an edge: the next tick tries again
                _log.exception("a replica could not be monitored")
            if before != (self.probed, self.problem, self.names, self.refused):
                changed()
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.probe_seconds if self.probed else _STARTING_SECONDS):
                    await self._kick.wait()

    async def _tick(self, patience: float) -> None:
        if not await self._engine.healthy():
            return
        if self.probed:
            await self._look(patience)
        if self._known or self.names:
            await self._compare_and_load()
        else:
            self.names = set()
        lacking = self._required & self.refused.keys()
        if lacking and not self.probed:
            self.problem = f"It does not take an adapter: {self.refused[min(lacking)]}"
        if not self.probed and not self.problem and self._required <= (self.names or set()):
            await self._probe()

    async def _look(self, patience: float) -> None:
        """Note whether it gets on; where its counters stand still, let it write a token for us."""
        self.progress = self.progress.seen(await self._engine.counters(), time.monotonic())
        if self.progress.questionable(time.monotonic(), patience):
            await self._engine.generate(self._model, self._prompt[:1], patience * ASK_AFTER)
            self.progress = self.progress.answered(time.monotonic())

    async def _compare_and_load(self) -> None:
        """List, load what is missing, take off what is gone. A repeated load would be refused, so none is repeated."""
        there = await self._engine.models()
        for name, path in self._wanted.items():
            if name in there or name in self.refused:
                continue
            try:
                await self._engine.load_adapter(name, path)
            except EngineRefused as error:
                self.refused[name] = str(error)
                continue
            self.progress = self.progress.answered(time.monotonic())
            there.add(name)
        for name in there - self._known - {self._model}:
            await self._engine.unload_adapter(name)
            there.discard(name)
        self.names = there

    async def _probe(self) -> None:
        for sample in self._samples:
            tokens = await self._engine.token_ids(self._model, sample["messages"])
            if tokens != list(sample["token_ids"]):
                self.problem = "Its tokens for a chat are not those that the model was trained with."
                return
        if await self._engine.generate(self._model, self._prompt) >= 1:
            self.probed = True
            self.progress = self.progress.answered(time.monotonic())
