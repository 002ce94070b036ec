"""Brings the files of deployments and of their adapters to this machine: fetch, merge, describe."""

import asyncio
import json
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from services.chassis.bus import retry_delay
from services.chassis.clock import now
from services.chassis.engines import merged_name
from services.chassis.errors import ModelryError, Unavailable
from services.chassis.launch import Launcher, ProgramRun
from services.chassis.objects import Manifest, NodeCache
from services.chassis.tasks import end_tasks
from services.chassis.transitions import Failure
from services.serving.domain.entities import Adapter, Deployment, Files, Mode, State
from services.serving.model_work import MODULE, ModelWork, WorkKind
from services.serving.operations import adapters, money, replicas
from services.serving.operations.context import ServiceContext

DESCRIPTION = "modelry.json"
_WAIT_SECONDS = 0.5
_RETRY_MAX_SECONDS = 15.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A model that an engine can be started with, and the token ids that it must give: [{messages, token_ids}]."""

    path: Path
    samples: tuple[dict[str, Any], ...]


class Weights:
    """One task for each deployment until its files are here, and one for each adapter."""

    def __init__(self, context: ServiceContext, launcher: Launcher) -> None:
        self._context, self._launcher = context, launcher
        home = context.settings.home
        self._models = home / "cache" / "models"
        self._described = home / "cache" / "described"
        self._ready: dict[str, Prepared] = {}
        self._adapters: dict[str, Path] = {}
        self._problems: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def ready(self, deployment_id: str) -> Prepared | None:
        """Return the files of a deployment, once they are here."""
        return self._ready.get(deployment_id)

    def adapter_path(self, adapter: Adapter) -> Path | None:
        """Return the folder of an adapter, named by its content, once it is here."""
        return self._adapters.get(adapter.files.digest)

    def problem(self, adapter: Adapter) -> str:
        """Return why an adapter is not here, in words."""
        return self._problems.get(adapter.files.digest, "")

    def prepare(self, deployment: Deployment) -> None:
        """Begin to bring the files of a deployment and of its adapters here, where that has not begun."""
        if deployment.state is State.DELETING:
            return
        if deployment.id not in self._ready:
            self._begin(deployment.id, self._prepare(deployment))
        for adapter in deployment.adapters:
            if adapter.engine_name and adapter.files.digest not in self._adapters:
                self._begin(adapter.files.digest, self._fetch_adapter(adapter))

    def keep(self, deployment_ids: set[str]) -> None:
        """Forget every other deployment: it is gone."""
        for gone in self._ready.keys() - deployment_ids:
            del self._ready[gone]
        for key in [one for one, task in self._tasks.items() if task.done()]:
            del self._tasks[key]

    async def stop(self) -> None:
        """Stop; programs go on, and the next process finds them."""
        await end_tasks(*self._tasks.values())

    def _begin(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        if key in self._tasks and not self._tasks[key].done():
            work.close()
            return
        self._tasks[key] = asyncio.create_task(work, name=f"weights-{key}")

    async def _fetch_adapter(self, adapter: Adapter) -> None:
        digest = adapter.files.digest
        for tries in count(1):
            try:
                self._adapters[digest] = await self._fetch(adapter.files)
                break
            except ModelryError as error:
                self._problems[digest] = error.message
                _log.warning("adapter %s: %s", adapter.fine_tuned_name, error.message)
            await asyncio.sleep(retry_delay(tries, _WAIT_SECONDS, _RETRY_MAX_SECONDS))
        self._problems.pop(digest, None)
        self._context.wake.set()

    async def _prepare(self, first: Deployment) -> None:
        failures = 0
        while True:
            async with self._context.reading() as uow:
                deployment = await uow.deployments.by_id(first.id)
            if deployment is None or deployment.state.going:
                return
            try:
                if await self._try(deployment):
                    return
                delay = _WAIT_SECONDS if deployment.id not in self._context.troubles else _RETRY_MAX_SECONDS
                await replicas.refresh_deployment(first.id, "", self._context, now())
            except Exception as error:  # an edge: it is tried again, and the deployment says why
                failures += 1
                await self._trouble(first.id, error)
                delay = retry_delay(failures, _WAIT_SECONDS, _RETRY_MAX_SECONDS)
            await asyncio.sleep(delay)

    async def _try(self, deployment: Deployment) -> bool:
        """Try once. False: the registry is not ready yet, or the model cannot be served."""
        await money.confirm(deployment, self._context)
        if not deployment.facts.prepared:
            refreshed = await adapters.refresh_facts(deployment, self._context, now())
            if refreshed is None:
                return False
            deployment = refreshed
        path = await self._model(deployment)
        if path is None:
            return False
        samples = await self._samples(path)
        self._ready[deployment.id] = Prepared(path, samples)
        if self._context.troubles.pop(deployment.id, None) is not None:
            await replicas.refresh_deployment(deployment.id, "Its files are here.", self._context, now())
        self._context.wake.set()
        await adapters.attach_published(deployment, self._context, now())
        return True

    async def _trouble(self, deployment_id: str, error: Exception) -> None:
        reason = "WEIGHTS_FAILED"
        message = f"The files cannot be prepared ({type(error).__name__}); the log says more."
        if known := isinstance(error, ModelryError):
            reason, message = error.reason, error.message
        _log.warning("deployment %s: %s", deployment_id, message, exc_info=not known)
        if deployment_id in self._ready:
            return
        self._context.troubles[deployment_id] = Failure(reason, message)
        try:
            await replicas.refresh_deployment(deployment_id, message, self._context, now())
        except ModelryError as other:
            _log.warning("deployment %s: %s", deployment_id, other.message)

    async def _model(self, deployment: Deployment) -> Path | None:
        """Return the folder that the engine is started with."""
        facts = deployment.facts
        assert facts.base is not None, "a prepared model has files"
        base = await self._fetch(facts.base)
        if deployment.effective_mode is Mode.ATTACHED:
            return base if await adapters.own_adapter(deployment, self._context, now()) is not None else None
        if facts.own is None:
            return base
        adapter = await self._fetch(facts.own)
        output = self._models / merged_name(base.name, adapter.name)
        work = ModelWork(WorkKind.MERGE, base, output, adapter)
        return await self._run(f"merge-{output.name[-32:]}", work)

    async def _fetch(self, files: Files) -> Path:
        """Return the folder of a version's files in the node's cache, named by their digest."""
        stored = files.stored
        manifest = Manifest.from_json(json.loads(stored.manifest_json))
        fetch, store = NodeCache(self._models).fetch, self._context.store
        return await asyncio.to_thread(fetch, store, stored.bucket, stored.prefix, manifest)

    async def _run(self, launch_id: str, work: ModelWork) -> Path:
        """Run a one-shot program until its output is there. One that a dead service began is found again by its id.

        Raises: Unavailable: there is no place for it, or the program failed; why is in the message.
        """
        if work.output_path.exists():
            return work.output_path
        run = ProgramRun(self._launcher, self._context.settings.home, launch_id)
        await run.start(MODULE, work.to_json())
        result = await run.finish(self._context.settings.prepare_seconds)
        if not work.output_path.exists():
            why = result.message if result is not None else await run.how_it_ended()
            raise Unavailable(f"{launch_id} failed: {why}", reason="PROGRAM_FAILED")
        await run.discard()
        return work.output_path

    async def _samples(self, model: Path) -> tuple[dict[str, Any], ...]:
        """Return the canonical conversations and their token ids: from beside the weights, or described once."""
        path = model / DESCRIPTION
        if not path.is_file():
            output = self._described / f"{model.name}.json"
            work = ModelWork(WorkKind.DESCRIBE, model, output)
            path = await self._run(f"describe-{model.name[-32:]}", work)
        content = json.loads(await asyncio.to_thread(path.read_text, "utf-8"))
        return tuple(content["samples"])
