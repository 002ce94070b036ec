"""The work of an installation under chaos: what users do all the time, and what they were told."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc

from modelry.client import Client, ModelryError
from tests.stack import Stack

# Refusals that say "not now": the call is made again with the same request id, as the client's documents say.
PASSING = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "RESOURCE_EXHAUSTED"}
JOBS_AT_ONCE = 2
RECIPE = {"epochs": 3, "batch_size": 1, "lora_rank": 4, "cutoff_length": 64, "checkpoint_interval": 10}
ROWS = 8


@dataclass
class Ledger:
    """What the installation acknowledged, and how calls ended. Filled from several threads."""

    jobs: dict[str, str] = field(default_factory=dict)
    """Name of a job -> its id."""
    stopped: set[str] = field(default_factory=set)
    """Ids of jobs whose stop was acknowledged."""
    versions: list[tuple[str, str]] = field(default_factory=list)
    """Data set and version id of acknowledged imports."""
    lists: dict[str, str] = field(default_factory=dict)
    """Stop-word lists: name -> id."""
    keys: dict[str, str] = field(default_factory=dict)
    """API keys: name -> id."""
    deployment: str = ""
    wrong: list[str] = field(default_factory=list)
    """Answers that no kill excuses."""
    counts: Counter[str] = field(default_factory=Counter)
    longest_silence_seconds: float = 0.0

    def idle(self) -> list[str]:
        """Kinds of work of which nothing was acknowledged: a run without them shows nothing."""
        done = {
            "job": bool(self.jobs),
            "import": bool(self.versions),
            "stop-word list": bool(self.lists),
            "call with the known key": bool(self.counts["known key ok"]),
            "chat": bool(self.counts["chat 200"] or not self.deployment),
        }
        return [kind for kind, any_done in done.items() if not any_done]

    def figures(self) -> dict[str, object]:
        """How many calls ended how."""
        return {**dict(sorted(self.counts.items())), "longest silence, s": round(self.longest_silence_seconds, 1)}


class Load:
    """Threads that use the installation until the block is left."""

    def __init__(self, stack: Stack, folder: Path, seed: int, replica: bool) -> None:
        self.stack, self.folder, self.seed, self.replica = stack, folder, seed, replica
        self.ledger = Ledger()
        self._stopping = threading.Event()
        self._client = Client(home=str(stack.home))
        self._known, self._revoked = self._make_keys()

    def _make_keys(self) -> tuple[str, str]:
        known = self._client.create_api_key(api_key={"name": "known", "role": "DEVELOPER"})
        revoked = self._client.create_api_key(api_key={"name": "revoked", "role": "DEVELOPER"})
        assert self._client.revoke_api_key(api_key="revoked").propagated
        self.ledger.keys |= {"known": known.id, "revoked": revoked.id}
        return known.secret, revoked.secret

    def __enter__(self) -> Self:
        if self.replica:
            wanted = {"name": "tiny-live", "model": "tiny", "replicas": 1, "engine": {"max_model_length": 256}}
            self.ledger.deployment = self._client.create_deployment(deployment=wanted).id
            changes = self._client.watch_deployment(deployment=self.ledger.deployment)
            next(seen for seen in changes if seen.ready_replicas)
        works = [self._import, self._tune, self._note, self._ask]
        self._threads = [threading.Thread(target=self._repeat, args=(work,), name=work.__name__) for work in works]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def _repeat(self, work: Callable[[int], None]) -> None:
        number = 0
        while not self._stopping.is_set():
            number += 1
            try:
                work(number)
            except Exception as error:  # an edge: what nobody foresaw is a broken promise
                self.ledger.wrong.append(f"{work.__name__} {number}: {type(error).__name__}: {error}")
                self._stopping.wait(1)

    def _call(self, name: str, **fields: Any) -> Any:
        """A call as a patient user makes it: again, with the same request id, until it is answered or refused."""
        if name.startswith("create_"):
            fields["request_id"] = uuid.uuid4().hex
        while True:
            try:
                answer = getattr(self._client, name)(**fields)
            except ModelryError as error:
                if error.code not in PASSING:
                    raise
                self.ledger.counts[f"{name} again"] += 1
                if self._stopping.wait(0.5):
                    return None
            else:
                self.ledger.counts[f"{name} ok"] += 1
                return answer

    def _import(self, number: int) -> None:
        path = self.folder / f"rows-{number}.jsonl"
        rows = [{"instruction": f"Say {number} and {n}", "output": f"{number} and {n}."} for n in range(ROWS)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        try:
            file = self._client.upload(str(path))
        except (ModelryError, grpc.RpcError):
            self.ledger.counts["upload again"] += 1
            return
        name = f"set-{number}"
        version = self._call(
            "create_dataset_version", dataset=name, dataset_version={"file_id": file.id}, create_dataset=True
        )
        if version is not None:
            self.ledger.versions.append((name, version.id))
        self._stopping.wait(3)

    def _tune(self, number: int) -> None:
        name = f"tune-{number}"
        job = {"name": name, "model": "tiny", "datasets": [{"ref": "numbers"}], "hyperparameters": RECIPE}
        made = self._call("create_job", job=job)
        if made is None:
            return
        self.ledger.jobs[name] = made.id
        if number % 4 == 0 and (stopped := self._stop(made.id)) is not None:
            self.ledger.stopped.add(stopped)
        while not self._stopping.wait(1):
            page = self._call("list_jobs", page_size=100)
            active = [one for one in page.jobs if not one.finish_time.seconds] if page is not None else []
            if len(active) < JOBS_AT_ONCE:
                return

    def _stop(self, job_id: str) -> str | None:
        self._stopping.wait(5)
        try:
            return job_id if self._call("stop_job", job=job_id) is not None else None
        except ModelryError as error:
            if error.code != "FAILED_PRECONDITION":  # it had ended before
                raise
            return None

    def _note(self, number: int) -> None:
        """Small records of two services, made and changed."""
        words = self._call("create_stopword_list", stopword_list={"name": f"words-{number}", "words": ["the", "a"]})
        if words is not None:
            self.ledger.lists[words.name] = words.id
        key = self._call("create_api_key", api_key={"name": f"key-{number}", "role": "VIEWER"})
        if key is not None:
            self.ledger.keys[key.name] = key.id
        self._stopping.wait(0.5)

    def _ask(self, number: int) -> None:
        """Known keys work and a revoked one does not, whatever is away; only a gateway that is down may be silent."""
        begin = time.monotonic()
        while (status := self._status("/v1/models", self._known)) != 200 and not self._stopping.is_set():
            if status in (401, 403):
                self.ledger.wrong.append(f"a known key was answered {status}")
            time.sleep(0.1)
        self.ledger.longest_silence_seconds = max(self.ledger.longest_silence_seconds, time.monotonic() - begin)
        self.ledger.counts["known key ok"] += 1
        if self._status("/v1/models", self._revoked) == 200:
            self.ledger.wrong.append("a revoked key was let in")
        if self.replica:
            question = {"model": "tiny-live", "messages": [{"role": "user", "content": "Say 3"}], "max_tokens": 4}
            status = self._status("/v1/chat/completions", self._known, question)
            self.ledger.counts[f"chat {status or 'broke off'}"] += 1
            if status in (401, 403, 500):
                self.ledger.wrong.append(f"a chat was answered {status}")
        self._stopping.wait(0.1)

    def _status(self, path: str, key: str, body: Any = None) -> int:
        """HTTP status; 0 when there was no whole answer."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.stack.http}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0
        except ValueError:  # an answer that was cut off
            return 0
