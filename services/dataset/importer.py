"""Does the imports of the service in the background: claim, run the import program, apply what it says.

An import belongs to whoever holds its token. When this process dies its programs die with it (they read its end on
stdin), and the next process claims the imports again with the next token.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.chassis.clock import now
from services.chassis.errors import Conflict, Invalid, ModelryError, NotFound, Unavailable
from services.chassis.ids import new_id
from services.chassis.objects import AsyncObjectStore
from services.dataset.domain import DatasetVersion, Format, Work
from services.dataset.object_sources import Place, open_store
from services.dataset.operations.context import Desk
from services.dataset.operations.files import get_file
from services.dataset.operations.holds import drop_fallen_holds
from services.dataset.operations.imports import (
    Outcome,
    apply_outcome,
    claim_import,
    give_back,
    list_waiting,
    note_progress,
)

_log = logging.getLogger(__name__)
_ROOT = Path(__file__).resolve().parents[2]
_LINE_BYTES = 64 << 20
_SWEEP_SECONDS = 30.0


class Importer:
    """The background side of the service."""

    def __init__(self, desk: Desk, home: Path, *, parallel: int, look_seconds: float, lease_seconds: float) -> None:
        """Args: parallel: imports at once; look_seconds: how often it looks by itself for something to do."""
        self._desk = desk
        self._folder = home / "work" / "imports"
        self._parallel = parallel
        self._look_seconds = look_seconds
        self._lease_seconds = lease_seconds
        self._owner = new_id("")
        self._running: dict[str, asyncio.Task[None]] = {}
        self._beats: dict[str, tuple[int, float]] = {}
        self._loop: asyncio.Task[None] | None = None
        # One process owns a SQLite file, so whoever claimed an import before is dead.
        self._alone = desk.database.dialect == "sqlite"

    async def start(self) -> None:
        """Begins to look for imports, those that a dead process left first."""
        if self._alone:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        self._loop = asyncio.create_task(self._look(), name="importer")

    async def stop(self) -> None:
        """Ends all programs and lets their imports go, to be done again by the next process."""
        tasks = [*self._running.values(), *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        swept = 0.0
        while True:
            self._desk.wake.clear()
            try:
                await self._start_waiting()
                if time.monotonic() - swept > min(_SWEEP_SECONDS, self._desk.hold_seconds):
                    await drop_fallen_holds(self._desk, now())
                    swept = time.monotonic()
                await self._remove_garbage()
            except Unavailable as error:
                _log.warning("looking for imports: %s", error.message)
            except Exception:
                _log.exception("looking for imports")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._desk.wake.wait(), self._look_seconds)

    async def _start_waiting(self) -> None:
        waiting = await list_waiting(self._desk)
        for item in waiting:
            if len(self._running) >= self._parallel:
                return
            if item.version.id in self._running or not self._free(item.work):
                continue
            work = await claim_import(self._desk, item, self._owner)
            if work is not None:
                task = asyncio.create_task(self._run(item.version, work), name=f"import-{item.version.id}")
                self._running[item.version.id] = task

    def _free(self, work: Work) -> bool:
        """Whether nobody works on it: never claimed, let go, or its owner is silent for longer than the lease."""
        if work.retry_time is not None and work.retry_time > now():
            return False
        if not work.owner or work.owner == self._owner or self._alone:
            return True
        beat, since = self._beats.get(work.version_id, (-1, 0.0))
        if beat != work.beat:
            self._beats[work.version_id] = (work.beat, time.monotonic())
            return False
        return time.monotonic() - since > self._lease_seconds

    async def _run(self, version: DatasetVersion, work: Work) -> None:
        """One attempt, from the claim to its outcome."""
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
            self._beats.pop(version.id, None)
            self._desk.wake.set()

    async def _let_go(self, version: DatasetVersion, work: Work) -> None:
        with suppress(ModelryError):
            await give_back(self._desk, version, work)

    async def _apply(self, version: DatasetVersion, work: Work, outcome: Outcome) -> None:
        for _ in range(10):
            try:
                await apply_outcome(self._desk, version, work, outcome, now())
            except (Conflict, Unavailable) as error:
                _log.warning("import %s: %s", version.id, error.message)
                await asyncio.sleep(self._look_seconds)
            else:
                _log.info("import %s: %s", version.id, outcome.kind)
                return

    async def _attempt(self, version: DatasetVersion, work: Work) -> Outcome | None:
        """Runs the import program. None: the import was taken away meanwhile."""
        try:
            place = await self._place(version)
        except (NotFound, Invalid) as error:
            return Outcome("refused", {"reason": error.reason, "message": error.message})
        except Unavailable as error:
            return Outcome("failed", {"reason": error.reason, "message": error.message})
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.dataset.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "sdk"), *_python_path()])},
            start_new_session=True,
        )
        try:
            return await self._listen(process, self._spec(version, work, place), version, work)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await asyncio.shield(process.wait())

    async def _place(self, version: DatasetVersion) -> Place:
        source = version.source
        if source.file_id:
            file = await get_file(self._desk, version.project, source.file_id)
            return self._desk.sources.uploaded(self._desk.file_key(version.project, file.id), file.filename)
        return await self._desk.sources.place(version.project, source)

    def _spec(self, version: DatasetVersion, work: Work, place: Place) -> dict[str, Any]:
        """What the program is told, on stdin: it holds keys of stores."""
        sources = self._desk.sources
        return {
            "format": 1,
            "folder": str(self._folder / f"{version.id}-{work.token}"),
            "source": {
                "access": place.access.to_json(),
                "bucket": place.bucket,
                "prefix": place.prefix,
                "name": place.name,
            },
            "options": {
                "format": "" if version.format is Format.FORMAT_UNSPECIFIED else version.format.name,
                "columns": dict(version.columns),
                "max_bad_rows": version.allowed_bad_rows,
            },
            "output": {
                "access": sources.system.to_json(),
                "bucket": sources.bucket,
                "prefix": self._desk.version_prefix(version, work.token),
            },
        }

    async def _listen(
        self, process: asyncio.subprocess.Process, spec: dict[str, Any], version: DatasetVersion, work: Work
    ) -> Outcome | None:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(ConnectionError):
            process.stdin.write(json.dumps(spec).encode() + b"\n")
            await process.stdin.drain()
        async for line in _lines(process.stdout):
            if line["kind"] != "progress":
                return Outcome(line["kind"], line)
            work = replace(
                work,
                beat=work.beat + 1,
                row_count=line["rows"],
                bad_row_count=line["bad_rows"],
                bytes_read=line["bytes_read"],
                bytes_total=line["bytes_total"],
            )
            if not await note_progress(self._desk, version, work):
                return None
        code = await process.wait()
        return Outcome("crashed", {"reason": "IMPORT_CRASHED", "message": f"the import program ended with code {code}"})

    async def _remove_garbage(self) -> None:
        """Removes objects that nothing refers to any more. What is in use by a running attempt stays."""
        async with self._desk.reading() as uow:
            garbage = await uow.garbage()
        store = AsyncObjectStore(open_store(self._desk.sources.system))
        for item in garbage:
            await store.delete_prefix(item.bucket, item.prefix)
            async with self._desk.writing() as uow:
                await uow.forget_garbage(item.prefix)
                await uow.commit()


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    while line := await stream.readline():
        yield json.loads(line)


def _python_path() -> list[str]:
    return [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
