"""What the engine hears over the bus: work reports by a durable consumer, heartbeats that nobody stores."""

import json
import logging
from contextlib import suppress
from typing import Generic, TypeVar

from services.chassis.background import BackgroundLoop
from services.chassis.bus import Bus
from services.chassis.delivery import Consumer, Message
from services.chassis.errors import Invalid, Unavailable
from services.chassis.events import Malformed
from services.chassis.jobs.context import EngineContext
from services.chassis.jobs.domain import JobCore
from services.chassis.jobs.reports import Reports
from services.chassis.readiness import Lack

J = TypeVar("J", bound=JobCore)
_log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.2


class ReportListener(Generic[J]):
    """Bring reports to `Reports` and heartbeats to the leases, and say when silence may be judged."""

    def __init__(self, context: EngineContext[J], bus: Bus, reports: Reports[J]) -> None:
        self._context = context
        self._bus = bus
        self._reports = reports
        name = context.stage.name
        self._consumer = Consumer(
            bus, context.database, f"{name}-on-work", f"modelry.work.{name}.>", self._handle, context.settings
        )
        self._judging = 0  # the connection on which silence is judged
        self._judging_loop = BackgroundLoop(f"leases of {name}", self._judge, _LOOK_SECONDS)

    @property
    def connected(self) -> bool:
        """Whether reports can come over the bus now."""
        return self._bus.connected

    async def start(self) -> None:
        """Begin to hear; return at once, also without NATS."""
        with suppress(Unavailable):  # the connection was lost meanwhile: the next one subscribes
            await self._bus.listen(f"modelry.heartbeat.{self._context.stage.name}.*", self._beat)
        await self._consumer.start()
        await self._judging_loop.start()

    async def stop(self) -> None:
        """Stop hearing."""
        await self._judging_loop.stop()
        await self._consumer.stop()
        self._context.leases.deafen()

    def degraded(self) -> list[Lack]:
        """Return why silence cannot be judged, if that keeps failing."""
        return self._judging_loop.degraded()

    async def _handle(self, message: Message) -> None:
        try:
            await self._reports.take(message.json(), message.subject.rsplit(".", 1)[-1])
        except Invalid as error:
            self._context.counts["malformed"] += 1
            raise Malformed(error.message) from error

    def _beat(self, subject: str, data: bytes) -> None:
        """Believe a heartbeat of an attempt that is under way, on its job's subject, with its secret."""
        job_id = subject.rsplit(".", 1)[-1]
        try:
            beat = json.loads(data)
            launch_id = f"{job_id}-{int(beat['attempt'])}"
            believed = self._context.leases.beat(launch_id, str(beat.get("secret", "")))
        except (ValueError, KeyError, TypeError):
            _log.warning("a heartbeat on %s cannot be read", subject)
            return
        if believed and beat.get("state") in ("STOPPING", "CLOSING"):
            self._context.obeying.add(launch_id)

    async def _judge(self) -> None:
        """Judge silence on a connection once everything stored before was applied, and not without one."""
        if not self._bus.connected:
            self._context.leases.deafen()
            self._judging = 0
        elif self._judging != self._bus.generation:
            self._context.leases.deafen()
            generation = self._bus.generation
            if await self._consumer.caught_up() and self._bus.connected and generation == self._bus.generation:
                self._judging = generation
                self._context.leases.begin()
