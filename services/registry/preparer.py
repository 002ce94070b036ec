"""Prepares versions in the background: fetch, check, store. The work is a program of its own, on slots of the launcher.

A preparation is found again by its id after the service was killed; one that broke off is begun anew, a few times.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from services.chassis.clock import now
from services.chassis.errors import Invalid, ModelryError, NotFound, Unavailable
from services.chassis.launch import LaunchSpec, LocalLauncher, ProbeState
from services.chassis.objects import Manifest
from services.registry.domain import PRESETS, Failure, Files, ModelVersion
from services.registry.operations import resolve, versions
from services.registry.operations.context import Desk
from services.registry.settings import RegistrySettings

RESULT_FILE = "result.json"
POLL_SECONDS = 0.3
SWEEP_SECONDS = 30.0
_log = logging.getLogger(__name__)


class Preparer:
    """The background side of the registry."""

    def __init__(
        self, desk: Desk, launcher: LocalLauncher, settings: RegistrySettings, presets: Sequence[Mapping[str, Any]]
    ) -> None:
        self._desk, self._launcher, self._settings = desk, launcher, settings
        self._presets = {str(preset["name"]): preset for preset in presets}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look for versions to prepare, those that a dead process left first."""
        self._loop = asyncio.create_task(self._look(), name="preparer")

    async def stop(self) -> None:
        """Stop looking; the programs go on, and the next process finds them."""
        tasks = [*self._running.values(), *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        swept = 0.0
        while True:
            self._desk.wake.clear()
            try:
                async with self._desk.reading() as uow:
                    waiting = [version for version in await uow.preparing() if not version.checkpoint_id]
                for version in waiting:
                    if version.id not in self._running:
                        task = asyncio.create_task(self._run(version), name=f"prepare-{version.id}")
                        self._running[version.id] = task
                if time.monotonic() - swept > min(SWEEP_SECONDS, self._desk.hold_seconds):
                    await resolve.drop_fallen_holds(self._desk, now())
                    swept = time.monotonic()
            except ModelryError as error:
                _log.warning("looking for versions to prepare: %s", error.message)
            except Exception:
                _log.exception("looking for versions to prepare")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._desk.wake.wait(), self._settings.reconcile_seconds)

    async def _run(self, version: ModelVersion) -> None:
        """One version, from its start to its outcome."""
        try:
            result = await self._attempt(version)
            if result is None:
                return
            if result["ok"]:
                await versions.complete(self._desk, version.id, _prepared(result["result"]), now())
            else:
                failure = Failure(result["reason"], result["message"], bool(result["user"]))
                await versions.fail(self._desk, version.id, failure, now())
        except Unavailable as error:
            _log.info("preparation of %s waits: %s", version.id, error.message)
        except Exception:
            _log.exception("preparation of %s", version.id)
        finally:
            await asyncio.sleep(POLL_SECONDS)
            self._running.pop(version.id, None)
            self._desk.wake.set()

    async def _attempt(self, version: ModelVersion) -> dict[str, Any] | None:
        """Runs the program to its end. None: look again later."""
        number = max(version.attempts, 1)
        launch_id = f"prepare-{version.id}-{number}"
        folder = self._settings.home / "work" / launch_id
        probe = await self._launcher.probe(launch_id)
        if version.attempts == 0 or (probe.state is not ProbeState.RUNNING and not (folder / RESULT_FILE).exists()):
            if version.attempts >= self._settings.prepare_attempts:
                message = f"It broke off {version.attempts} times; the logs of {launch_id} say why."
                return {"ok": False, "reason": "PREPARATION_BROKE_OFF", "message": message, "user": False}
            started = await self._start(version)
            if started is None:
                return None
            launch_id, folder = started
        await self._wait(launch_id)
        result = await asyncio.to_thread(_read_result, folder)
        if result is not None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return result

    async def _start(self, version: ModelVersion) -> tuple[str, Path] | None:
        try:
            spec = await self._spec(version)
        except (NotFound, Invalid) as error:
            failure = Failure(error.reason, error.message, True)
            await versions.fail(self._desk, version.id, failure, now())
            return None
        usage = await self._launcher.usage()
        if usage.cpus_held + self._settings.prepare_cpus > usage.cpus:
            raise Unavailable("no CPU core is free")
        noted = await versions.note_attempt(self._desk, version.id)
        if noted is None:
            return None
        launch_id = f"prepare-{version.id}-{noted.attempts}"
        folder = self._settings.home / "work" / launch_id
        await asyncio.to_thread(_write_spec, folder, spec)
        argv = [sys.executable, "-m", "services.registry.worker", str(folder)]
        await self._launcher.start(LaunchSpec(launch_id, argv, {}, folder, self._settings.prepare_cpus))
        return launch_id, folder

    async def _wait(self, launch_id: str) -> None:
        deadline = time.monotonic() + self._settings.prepare_seconds
        while (await self._launcher.probe(launch_id)).state is ProbeState.RUNNING:
            if time.monotonic() > deadline:
                await self._launcher.kill(launch_id)
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _spec(self, version: ModelVersion) -> dict[str, Any]:
        """What the program is told. Raises: NotFound, Invalid: its source cannot be opened."""
        sources: list[dict[str, Any]]
        if version.project == PRESETS:
            sources = [dict(source) for source in self._presets[version.model_name]["sources"]]
            folder = Path(self._settings.preset_folder) / version.model_name
            if self._settings.preset_folder and folder.is_dir():
                sources.insert(0, {"kind": "directory", "path": str(folder)})
        else:
            assert version.source is not None, "an import has a source"
            access, bucket = await versions.open_location(
                self._desk, version.project, version.source, "model_version.source"
            )
            sources = [
                {"kind": "object", "access": access.to_json(), "bucket": bucket, "prefix": version.source.prefix}
            ]
        await self._desk.store.ensure_bucket(self._desk.bucket)
        output = {"bucket": self._desk.bucket, "prefix": f"{self._desk.prefix(version)}/weights"}
        return {
            "format": 1,
            "sources": sources,
            "output": {"access": self._desk.system.to_json(), **output},
        }


def _prepared(result: Mapping[str, Any]) -> versions.Prepared:
    manifest = Manifest.from_json(result["manifest"])
    files = Files(
        result["bucket"], result["prefix"], json.dumps(manifest.to_json()), manifest.digest, manifest.size_bytes
    )
    return versions.Prepared(
        files=files,
        architecture=str(result["architecture"]),
        parameter_count=int(result["parameter_count"]),
        context_length=int(result["context_length"]),
        shape={name: int(value) for name, value in result["shape"].items()},
        chat_fingerprint=str(result["chat_fingerprint"]),
    )


def _read_result(folder: Path) -> dict[str, Any] | None:
    try:
        result: dict[str, Any] = json.loads((folder / RESULT_FILE).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return result


def _write_spec(folder: Path, spec: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "spec.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(spec), "utf-8")
