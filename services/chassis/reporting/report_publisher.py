"""The thread that carries a worker's spool to the bus, with an event loop and a connection of its own."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from services.chassis.bus import Bus, Session
from services.chassis.reporting.spool import Spool
from services.chassis.settings import Settings

ACK_SECONDS = 5
LONGEST_DELAY_SECONDS = 2.0


class ReportLink:
    """Publish reports in order, one in flight, and heartbeats; connect again for ever.

    The connection is never mended by the library: while it is away nothing is handed over, and when it is lost what
    was in flight counts as not sent. The same report has the same message id, so sending it again makes no second one.
    """

    def __init__(self, spec: Mapping[str, Any], spool: Spool, state: Callable[[], str]) -> None:
        """Args: state: gives the word of the next heartbeat."""
        self._spec, self._spool, self._state = spec, spool, state
        self._name = f"{spec['job_id']}-{spec['attempt']}"
        self._loop = asyncio.new_event_loop()
        self._kicked = asyncio.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="reporter-link", daemon=True)
        self._main = self._loop.create_task(self._work())

    def start(self) -> None:
        """Begin, and return at once, with the bus or without."""
        self._thread.start()

    def kick(self) -> None:
        """Publish what is new in the spool at once."""
        self.run_soon(self._kicked.set)

    def run_soon(self, callback: Callable[[], object]) -> None:
        """Have a function called in the link's thread; a signal handler may call this, since no lock is taken."""
        with contextlib.suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(callback)

    def close(self, timeout: float) -> bool:
        """Wait until everything was acknowledged, at most so long, and end. Return whether it was."""
        end = time.monotonic() + timeout
        self.kick()
        with self._changed:
            while self._spool.sent < self._spool.last and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
        self.run_soon(self._main.cancel)
        self._thread.join()
        return self._spool.sent >= self._spool.last

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:  # its end cancels what the library left
            runner.run(asyncio.wait([self._main]))

    async def _work(self) -> None:
        login = self._spec["nats"]
        settings = {
            "service": f"worker-{self._name}",
            "home": ".",  # not looked for: a worker's environment may name none
            "nats_url": login["url"],
            "nats_user": login.get("user") or "",
            "nats_password": login.get("password") or "",
            "reconnect_max_seconds": LONGEST_DELAY_SECONDS,
        }
        prefix = login.get("inbox_prefix") or "_INBOX"
        bus = Bus(Settings.model_validate(settings), streams=False, inbox_prefix=prefix)
        await bus.start()
        try:
            await asyncio.gather(
                bus.on_each(self._publish_all, "publishing of reports", LONGEST_DELAY_SECONDS),
                bus.on_each(self._beat, "heartbeat", LONGEST_DELAY_SECONDS),
            )
        finally:
            await bus.close()

    async def _publish_all(self, session: Session) -> None:
        while True:
            self._kicked.clear()
            reports = self._spool.unsent()
            for report in reports:
                await self._publish(session, report)
                with self._changed:
                    self._spool.mark_sent(report["number"])
                    self._changed.notify_all()
            if not reports:
                await self._kicked.wait()

    async def _publish(self, session: Session, report: Mapping[str, Any]) -> None:
        headers = {**self._spec.get("trace", {}), "Nats-Msg-Id": f"{self._name}-{report['number']}"}
        data = json.dumps(report, ensure_ascii=False, separators=(",", ":")).encode()
        publishing = session.js.publish(self._spec["subject"], data, timeout=ACK_SECONDS, headers=headers)
        await session.call(publishing, ACK_SECONDS + 1)

    async def _beat(self, session: Session) -> None:
        while True:
            beat = {
                "format": 1,
                "job_id": self._spec["job_id"],
                "attempt": self._spec["attempt"],
                "token": self._spec["token"],
                "secret": self._spec.get("secret", ""),
                "number": self._spool.last,
                "state": self._state(),
            }
            await session.call(session.client.publish(self._spec["heartbeat_subject"], json.dumps(beat).encode()))
            await session.call(session.client.flush(ACK_SECONDS), ACK_SECONDS + 1)
            await asyncio.sleep(float(self._spec.get("heartbeat_seconds", 5)))
