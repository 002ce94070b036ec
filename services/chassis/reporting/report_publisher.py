"""The thread that carries a worker's spool to the bus, with an event loop and a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from nats.js.errors import APIError, NoStreamResponseError

from services.chassis.bus import Session, open_session, retry_delay
from services.chassis.errors import Unavailable
from services.chassis.reporting.spool import Spool
from services.chassis.tasks import end_tasks

_log = logging.getLogger(__name__)
ACK_SECONDS = 5
LONGEST_DELAY_SECONDS = 2.0
_SHORTEST_DELAY_SECONDS = 0.05


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
        self._main: asyncio.Task[None] | None = None

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
        self.run_soon(self._cancel)
        self._thread.join()
        return self._spool.sent >= self._spool.last

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._main = self._loop.create_task(self._keep())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        finally:
            left = asyncio.all_tasks(self._loop)  # the library's, of a connection that was just being made
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.close()

    async def _keep(self) -> None:
        tries = 0
        while True:
            try:
                session = await self._connect()
            except Exception as error:  # an edge: whatever is wrong now may be right later
                tries += 1
                if tries == 1:
                    _log.warning("the bus is not reachable: %s", str(error) or type(error).__name__)
                await asyncio.sleep(retry_delay(tries, _SHORTEST_DELAY_SECONDS, LONGEST_DELAY_SECONDS))
                continue
            tries = 0
            await self._serve(session)

    async def _serve(self, session: Session) -> None:
        """Use a connection until it is lost."""
        parts = (self._publish_all(session), self._beat(session), self._closed(session))
        work = [asyncio.create_task(one) for one in parts]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (error := task.exception()) is not None:
                    _log.error("reporting broke off and begins again", exc_info=error)
                    await asyncio.sleep(LONGEST_DELAY_SECONDS)
        finally:
            await end_tasks(*work)
            with contextlib.suppress(Exception):  # it is being thrown away
                await asyncio.wait_for(session.client.close(), timeout=1)

    async def _closed(self, session: Session) -> None:
        await session.closed.wait()

    async def _connect(self) -> Session:
        login = self._spec["nats"]
        given = {key: login.get(key) for key in ("user", "password")}
        more = {"inbox_prefix": login["inbox_prefix"]} if login.get("inbox_prefix") else {}
        return await open_session(login["url"], f"modelry-worker-{self._name}", **given, **more)

    async def _publish_all(self, session: Session) -> None:
        failures = 0
        while True:
            self._kicked.clear()
            reports = self._spool.unsent()
            for report in reports:
                try:
                    await self._publish(session, report)
                except (APIError, NoStreamResponseError, Unavailable) as error:
                    failures += 1
                    if failures == 1:
                        _log.warning("report %d was not taken: %s", report["number"], error)
                    await asyncio.sleep(retry_delay(failures, _SHORTEST_DELAY_SECONDS, LONGEST_DELAY_SECONDS))
                    break  # again from this one
                failures = 0
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
                "number": self._spool.last,
                "state": self._state(),
            }
            with contextlib.suppress(Unavailable):
                await session.call(session.client.publish(self._spec["heartbeat_subject"], json.dumps(beat).encode()))
                await session.call(session.client.flush(ACK_SECONDS), ACK_SECONDS + 1)
            await asyncio.sleep(float(self._spec.get("heartbeat_seconds", 5)))
