"""Do the imports of the service in the background: claim, run the import program, apply what it says.

An import belongs to whoever holds its token. When this process dies, the next one ends the programs that it left and
claims their imports again with the next token.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from services.chassis.background import BackgroundLoop
from services.chassis.clock import now
from services.chassis.errors import Conflict, Invalid, ModelryError, NotFound, Unavailable
from services.chassis.holds import drop_fallen_holds
from services.chassis.ids import new_id
from services.chassis.launch import Launcher, ProgramRun
from services.chassis.tasks import end_tasks
from services.clients.credentials import BUILTIN
from services.dataset.domain import DatasetVersion, Format, Work
from services.dataset.import_work import CRASHED, MODULE, ImportCounts, ImportReport, ImportWork
from services.dataset.object_sources import ObjectSource
from services.dataset.operations.context import ServiceContext
from services.dataset.operations.files import get_file
from services.dataset.operations.imports import (
    Ending,
    Outcome,
    apply_outcome,
    claim_import,
    give_back,
    list_waiting,
    note_progress,
)

_log = logging.getLogger(__name__)
_PROGRAM_PREFIX = "import-"
_PLACE_SECONDS = 2.0
"""How long an import waits that found all places for programs taken."""
_SWEEP_SECONDS = 30.0


class _TakenAwayError(Exception):
    """The import is another process's now, or gone."""


class Importer(BackgroundLoop):
    """Run the imports of the service in the background."""

    def __init__(
        self,
        context: ServiceContext,
        launcher: Launcher,
        home: Path,
        *,
        parallel: int,
        period_seconds: float,
        lease_seconds: float,
    ) -> None:
        """Args: parallel: imports at once; period_seconds: time between two ticks that nothing else causes."""
        super().__init__("imports", self.tick, period_seconds, kicked=context.wake)
        self._context = context
        self._launcher = launcher
        self._home = home
        self._parallel = parallel
        self._period_seconds = period_seconds
        self._lease_seconds = lease_seconds
        self._owner = new_id("")
        self._running: dict[str, asyncio.Task[None]] = {}
        self._reading: dict[str, DatasetVersion] = {}
        self._beats: dict[str, tuple[int, float]] = {}
        self._swept = 0.0
        # One process owns a SQLite file, so whoever claimed an import before is dead.
        self._alone = context.database.dialect == "sqlite"

    async def start(self) -> None:
        """Begin the imports that wait; those that a dead process left come first."""
        await self._end_orphans()
        await super().start()

    async def _end_orphans(self) -> None:
        """End the programs of imports that are over, and on SQLite all of them: whoever started them is dead."""
        # Where programs of version 0.1 worked; they ended with their service.
        await asyncio.to_thread(shutil.rmtree, self._home / "work" / "imports", ignore_errors=True)
        waiting = set() if self._alone else {item.version.id for item in await list_waiting(self._context)}
        for probe in await self._launcher.list():
            version_id = probe.id.removeprefix(_PROGRAM_PREFIX).rpartition("-")[0]
            if probe.id.startswith(_PROGRAM_PREFIX) and version_id not in waiting:
                await ProgramRun(self._launcher, self._home, probe.id).discard()

    async def stop(self) -> None:
        """End all programs and let their imports go, to be done again by the next process."""
        await super().stop()
        await end_tasks(*self._running.values())

    async def tick(self) -> None:
        """Begin the imports that wait, and drop the holds that nobody confirmed."""
        await self._start_waiting()
        if time.monotonic() - self._swept > min(_SWEEP_SECONDS, self._context.hold_seconds):
            await drop_fallen_holds(self._context.writing(), self._context.oldest_hold(now()))
            self._swept = time.monotonic()

    async def _start_waiting(self) -> None:
        waiting = await list_waiting(self._context)
        for item in waiting:
            if len(self._running) >= self._parallel:
                return
            if item.version.id in self._running or not self._free(item.work) or not self._fair(item.version):
                continue
            if item.work.token:  # the program of an owner that fell silent must write nothing more
                await self._program(item.version, item.work).discard()
            work = await claim_import(item, self._owner, self._context)
            if work is not None:
                task = asyncio.create_task(self._import(item.version, work), name=f"import-{item.version.id}")
                self._running[item.version.id] = task
                self._reading[item.version.id] = item.version

    def _fair(self, version: DatasetVersion) -> bool:
        """Return whether a version's project may read one more foreign store: it has half of the places at most.

        Such a store may be as slow as it likes, and would keep everybody else waiting.
        """
        if not _is_foreign(version):
            return True
        held = [one for one in self._reading.values() if one.project == version.project and _is_foreign(one)]
        return len(held) < max(1, self._parallel // 2)

    def _free(self, work: Work) -> bool:
        """Return whether nobody works on it: never claimed, released, or its owner is silent beyond the lease."""
        if work.retry_time is not None and work.retry_time > now():
            return False
        if not work.owner or work.owner == self._owner or self._alone:
            return True
        beat, since = self._beats.get(work.version_id, (-1, 0.0))
        if beat != work.beat:
            self._beats[work.version_id] = (work.beat, time.monotonic())
            return False
        return time.monotonic() - since > self._lease_seconds

    async def _import(self, version: DatasetVersion, work: Work) -> None:
        """Run one attempt, from the claim to its outcome."""
        try:
            outcome = await self._attempt(version, work)
            if outcome is not None:
                await self._apply(version, work, outcome)
        except asyncio.CancelledError:
            await asyncio.shield(self._let_go(version, work))
            raise
        except Exception:
            _log.exception("import %s", version.id)
            await self._let_go(version, work)
        finally:
            self._running.pop(version.id, None)
            self._reading.pop(version.id, None)
            self._beats.pop(version.id, None)
            self._context.wake.set()

    async def _let_go(self, version: DatasetVersion, work: Work) -> None:
        with suppress(ModelryError):
            await give_back(version, work, self._context)

    async def _apply(self, version: DatasetVersion, work: Work, outcome: Outcome) -> None:
        for _ in range(10):
            try:
                await apply_outcome(version, work, outcome, self._context, now())
            except (Conflict, Unavailable) as error:
                _log.warning("import %s: %s", version.id, error.message)
                await asyncio.sleep(self._period_seconds)
            else:
                _log.info("import %s: %s", version.id, outcome.ending)
                return

    async def _attempt(self, version: DatasetVersion, work: Work) -> Outcome | None:
        """Run the import program. None: the import was taken away meanwhile, or finds no place for its program."""
        try:
            place = await self._place(version)
        except (NotFound, Invalid) as error:
            return Outcome(Ending.REFUSED, ImportReport(ImportCounts()), error.reason, error.message)
        except Unavailable as error:
            return Outcome(Ending.FAILED, ImportReport(ImportCounts()), error.reason, error.message)
        run = self._program(version, work)
        try:
            try:
                await run.start(MODULE, self._order(version, work, place).to_json())
            except Unavailable as error:
                _log.info("The import %s waits: %s", version.id, error.message)
                await give_back(version, work, self._context, now() + timedelta(seconds=_PLACE_SECONDS))
                return None
            return await self._follow(run, version, work)
        finally:
            await asyncio.shield(run.discard())

    def _program(self, version: DatasetVersion, work: Work) -> ProgramRun:
        told = {"project": version.project, "what": f"the import of {version.id}"}
        return ProgramRun(self._launcher, self._home, f"{_PROGRAM_PREFIX}{version.id}-{work.token}", **told)

    async def _place(self, version: DatasetVersion) -> ObjectSource:
        source = version.source
        if source.file_id:
            file = await get_file(version.project, source.file_id, self._context)
            return self._context.sources.uploaded(self._context.file_key(version.project, file.id), file.filename)
        return await self._context.sources.place(version.project, source)

    def _order(self, version: DatasetVersion, work: Work, place: ObjectSource) -> ImportWork:
        """Return what the program is told."""
        return ImportWork(
            source=place,
            format="" if version.format is Format.FORMAT_UNSPECIFIED else version.format.name,
            columns=dict(version.columns),
            max_bad_rows=version.allowed_bad_rows,
            output=self._context.sources.system,
            bucket=self._context.sources.bucket,
            prefix=self._context.version_prefix(version, work.token),
        )

    async def _follow(self, run: ProgramRun, version: DatasetVersion, work: Work) -> Outcome | None:
        async def note(progress: Mapping[str, Any]) -> None:
            nonlocal work
            work = replace(work, beat=work.beat + 1, **progress)
            if not await note_progress(version, work, self._context):
                raise _TakenAwayError

        try:
            result = await run.finish(on_progress=note)
        except _TakenAwayError:
            return None
        if result is not None:
            return Outcome.of(result)
        message = f"The import program broke off; {(await run.how_it_ended()).rstrip('.')}."
        return Outcome(Ending.CRASHED, ImportReport(ImportCounts()), CRASHED, message)


def _is_foreign(version: DatasetVersion) -> bool:
    """Return whether a version's rows lie in the store of a credential of its project."""
    return not version.source.file_id and version.source.credential not in ("", BUILTIN)
