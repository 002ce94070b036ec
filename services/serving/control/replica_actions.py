"""Does what was decided. Every action may be repeated: the next tick finds what is left to do."""

import asyncio
import logging
import re
import signal
import time

from services.chassis.clock import now
from services.chassis.errors import ModelryError, Unavailable
from services.chassis.launch import NEVER_FITS, LocalLauncher
from services.chassis.masking import mask
from services.chassis.tasks import end_tasks
from services.chassis.transitions import Failure, FailureKind
from services.serving.control.engine import choose_port, launch_spec
from services.serving.control.weights import Prepared
from services.serving.domain.deciding import Action, Verb
from services.serving.domain.entities import Deployment, Replica, ReplicaState
from services.serving.operations import deployments, replicas
from services.serving.operations.context import ServiceContext

_TERMINATE_AGAIN_SECONDS = 5.0
_LOG_BYTES = 8000
_LAST_WORDS = re.compile(r"\b\w*(?:Error|Exception)\b.*")
_log = logging.getLogger(__name__)


class ActionRunner:
    """Starts, moves and ends replicas."""

    def __init__(self, context: ServiceContext, launcher: LocalLauncher) -> None:
        self._context, self._launcher = context, launcher
        self._terminated: dict[str, float] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}

    async def stop(self) -> None:
        """Stop ending programs; the next process goes on."""
        await end_tasks(*self._ending.values())

    async def act(
        self, action: Action, deployment: Deployment, replica: Replica | None, model: Prepared | None
    ) -> None:
        """Do one action. Raises: ModelryError."""
        if replica is None:
            if action.verb is Verb.CREATE:
                await replicas.create_replica(deployment.id, action.restarts, action.cause, self._context, now())
            elif action.verb is Verb.REMOVE:
                for launch_id in await deployments.remove_deployment(deployment, self._context, now()):
                    await self.forget(launch_id)
            return
        match action.verb:
            case Verb.START if model is not None:
                await self._start(deployment, replica, model)
            case Verb.READY:
                probe = await self._launcher.probe(replica.id)
                seconds = (now() - replica.update_time).total_seconds()
                facts = {"ready_seconds": round(max(0.0, seconds), 1), "pid": probe.pid or 0}
                await self._move(replica, ReplicaState.READY, action.cause, **facts)
            case Verb.DRAIN:
                await self._move(replica, ReplicaState.DRAINING, action.cause)
            case Verb.FAIL:
                cause = f"{action.cause}{await self._last_words(replica)}"
                await self._move(replica, ReplicaState.FAILED, cause)
                self.end(replica.id)
            case Verb.TERMINATE:
                await self._terminate(replica.id)
            case Verb.KILL:
                self.end(replica.id)
            case Verb.END:
                self.end(replica.id)
                await self._move(replica, ReplicaState.ENDED, action.cause)
                self._terminated.pop(replica.id, None)

    async def _move(self, replica: Replica, state: ReplicaState, cause: str, **changes: object) -> None:
        await replicas.move_replica(replica.id, state, cause, self._context, now(), **changes)
        self._context.wake.set()

    async def _start(self, deployment: Deployment, replica: Replica, model: Prepared) -> None:
        """Start an engine. Its port is written down first: a process that dies after the start finds it again by it."""
        if not replica.port:
            async with self._context.reading() as uow:
                taken = {one.port for one in await uow.living_replicas()}
            updated = await replicas.note_replica(replica.id, self._context, now(), port=choose_port(taken))
            if updated is None:
                return
            replica = updated
        gpus = 1 if self._launcher.capacity.gpus else 0
        secret = self._context.secret_of(replica.id)
        spec = launch_spec(deployment, replica, model.path, secret, self._context.settings, gpus)
        try:
            handle = await self._launcher.start(spec)
        except Unavailable as error:
            if error.reason == NEVER_FITS:  # waiting does not help: the deployment says so
                self._context.troubles[deployment.id] = Failure(error.reason, error.message, FailureKind.USER)
            if replica.cause != error.message:
                await replicas.note_replica(replica.id, self._context, now(), cause=error.message)
            return
        self._context.troubles.pop(deployment.id, None)
        await self._move(replica, ReplicaState.STARTING, "The engine starts.", cpus=handle.cpus, pid=handle.pid or 0)

    async def _terminate(self, replica_id: str) -> None:
        last = self._terminated.get(replica_id, 0.0)
        if time.monotonic() - last >= _TERMINATE_AGAIN_SECONDS:
            self._terminated[replica_id] = time.monotonic()
            await self._launcher.signal(replica_id, signal.SIGTERM)

    async def _last_words(self, replica: Replica) -> str:
        """Return the last line of its log that names an error, for people."""
        try:
            chunk = await self._launcher.logs(replica.id, -_LOG_BYTES)
        except ModelryError:
            return ""
        errors = [match[0] for line in chunk.text.splitlines() if (match := _LAST_WORDS.search(line))]
        return f" Its log ends with: {mask(errors[-1])[:300]}" if errors else ""

    def end(self, launch_id: str) -> None:
        """Kill a program and all it started, in the background, until it is seen dead."""
        running = self._ending.get(launch_id)
        if running is None or running.done():
            self._ending[launch_id] = asyncio.create_task(self._kill(launch_id), name=f"end-{launch_id}")

    async def _kill(self, launch_id: str) -> None:
        try:
            await self._launcher.kill(launch_id)
        except ModelryError as error:
            _log.warning("%s", error.message)
        finally:
            self._context.wake.set()
            self._ending.pop(launch_id, None)

    async def forget(self, launch_id: str) -> None:
        """Drop the folder of an ended program."""
        try:
            await self._launcher.kill(launch_id)
            await self._launcher.forget(launch_id)
        except ModelryError as error:
            _log.warning("%s is not forgotten: %s", launch_id, error.message)
