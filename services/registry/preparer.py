"""Prepare versions in the background: fetch, check, store. The work is a one-shot program on the launcher.

A preparation is found again by its id after the service was killed; one that broke off is begun anew, a few times.
"""

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.chassis.background import BackgroundLoop
from services.chassis.clock import now
from services.chassis.errors import Invalid, NotFound, Unavailable
from services.chassis.holds import drop_fallen_holds
from services.chassis.launch import Launcher, ProgramResult, ProgramRun
from services.chassis.tasks import end_tasks
from services.chassis.transitions import Failure, FailureKind
from services.clients.credentials import open_location
from services.registry.domain import PRESETS, ModelVersion
from services.registry.operations import versions
from services.registry.operations.context import ServiceContext
from services.registry.preparation import MODULE, ModelSource, Preparation, PreparedModel
from services.registry.settings import RegistrySettings

POLL_SECONDS = 0.3
SWEEP_SECONDS = 30.0
_log = logging.getLogger(__name__)


class Preparer(BackgroundLoop):
    """The background side of the registry."""

    def __init__(
        self,
        context: ServiceContext,
        launcher: Launcher,
        settings: RegistrySettings,
        presets: Sequence[Mapping[str, Any]],
    ) -> None:
        super().__init__("preparation of models", self.tick, settings.reconcile_seconds, kicked=context.wake)
        self._context, self._launcher, self._settings = context, launcher, settings
        self._presets = {str(preset["name"]): preset for preset in presets}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._swept = 0.0

    async def stop(self) -> None:
        """Stop looking; the programs go on, and the next process finds them."""
        await super().stop()
        await end_tasks(*self._running.values())

    async def tick(self) -> None:
        """Begin the preparations that wait, those first that a dead process left."""
        async with self._context.reading() as uow:
            waiting = [version for version in await uow.preparing() if not version.checkpoint_id]
        for version in waiting:
            if version.id not in self._running:
                task = asyncio.create_task(self._prepare(version), name=f"prepare-{version.id}")
                self._running[version.id] = task
        if time.monotonic() - self._swept > min(SWEEP_SECONDS, self._context.hold_seconds):
            await drop_fallen_holds(self._context.writing(), self._context.oldest_hold(now()))
            self._swept = time.monotonic()

    async def _prepare(self, version: ModelVersion) -> None:
        """Prepare one version, from its start to its outcome."""
        try:
            run = await self._running_program(version)
            if run is not None:
                result = await run.finish(self._settings.prepare_seconds)
                if result is not None:
                    await self._apply(version, result)
                    await run.discard()
        except (NotFound, Invalid) as error:
            await self._fail(version, Failure(error.reason, error.message, FailureKind.USER))
        except Unavailable as error:
            _log.info("The preparation of %s waits: %s", version.id, error.message)
        except Exception:
            _log.exception("preparation of %s", version.id)
        finally:
            await asyncio.sleep(POLL_SECONDS)
            self._running.pop(version.id, None)
            self._context.wake.set()

    async def _running_program(self, version: ModelVersion) -> ProgramRun | None:
        """Return the last attempt's program if it runs or has ended, else that of a new one; None: nothing to do.

        Raises: NotFound, Invalid: the source cannot be opened. Unavailable: there is no place for a program.
        """
        run = self._program(version, version.attempts)
        if version.attempts and await run.exists():
            return run
        if version.attempts >= self._settings.prepare_attempts:
            message = f"It broke off {version.attempts} times; the logs of {run.id} say why."
            await self._fail(version, Failure("PREPARATION_BROKE_OFF", message, FailureKind.SYSTEM))
            return None
        run = self._program(version, version.attempts + 1)
        # Started before it is counted: one that finds no place is no attempt, and a start is done once for each id.
        await run.start(MODULE, (await self._order(version)).to_json())
        if await versions.note_attempt(version.id, self._context) is None:
            await run.discard()
            return None
        return run

    def _program(self, version: ModelVersion, attempt: int) -> ProgramRun:
        told = {"project": version.project, "what": f"the preparation of {version.id}"}
        return ProgramRun(self._launcher, self._settings.home, f"prepare-{version.id}-{attempt}", **told)

    async def _apply(self, version: ModelVersion, result: ProgramResult) -> None:
        if result.ok:
            await versions.complete(version, PreparedModel.from_json(result.result), self._context, now())
        else:
            kind = FailureKind.USER if result.user else FailureKind.SYSTEM
            await self._fail(version, Failure(result.reason, result.message, kind))

    async def _fail(self, version: ModelVersion, failure: Failure) -> None:
        await versions.fail(version.id, failure, self._context, now())

    async def _order(self, version: ModelVersion) -> Preparation:
        """Return what the program is told. Raises: NotFound, Invalid: its source cannot be opened."""
        context = self._context
        if version.project == PRESETS:
            sources = self._preset_sources(version.model_name)
        else:
            source = version.source
            assert source is not None, "an import has a source"
            opened = await open_location(
                context.credentials, version.project, source.credential, source.bucket, "model_version.source"
            )
            sources = [ModelSource("object", access=opened.access, bucket=opened.bucket, prefix=source.prefix)]
        return Preparation(tuple(sources), context.system, *await context.weights_place(version))

    def _preset_sources(self, name: str) -> list[ModelSource]:
        sources = [ModelSource.from_json(source) for source in self._presets[name]["sources"]]
        # A program inherits no secret: the hub's token goes by the spec.
        token = os.environ.get("HF_TOKEN", "")
        sources = [replace(one, token=token) if one.kind == "hub" else one for one in sources]
        folder = Path(self._settings.preset_folder) / name
        if self._settings.preset_folder and folder.is_dir():
            sources.insert(0, ModelSource("directory", path=str(folder)))
        return sources
