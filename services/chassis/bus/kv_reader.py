"""Following a KV bucket: a snapshot, then each change, through restarts of NATS and losses of the bucket."""

import asyncio
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import APIError

from services.chassis.bus.connection import Bus, Session, retry_delay
from services.chassis.errors import Unavailable
from services.chassis.tasks import end_tasks

HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS = 3.5
SAVE_SECONDS = 0.1

_log = logging.getLogger(__name__)

Value = Mapping[str, Any] | None


def decode_key(text: str) -> str:
    """Return a key as it was before `encode_key`."""
    raw = re.sub(rb"=([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), text.encode())
    return raw.decode("utf-8", "replace")


@asynccontextmanager
async def _open(session: Session, bucket: str) -> AsyncIterator[tuple[ConsumerInfo, "asyncio.Queue[Msg]"]]:
    """Open a consumer of the last record of each key and of every later one, with the messages that it pushes."""
    inbox: asyncio.Queue[Msg] = asyncio.Queue()
    deliver = session.client.new_inbox()
    subscription = await session.call(session.client.subscribe(deliver, cb=inbox.put))
    config = ConsumerConfig(
        deliver_subject=deliver,
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        filter_subject=f"$KV.{bucket}.>",
        ack_policy=AckPolicy.NONE,
        idle_heartbeat=HEARTBEAT_SECONDS,
        inactive_threshold=10,
        mem_storage=True,
    )
    try:
        info = await session.call(session.js.add_consumer(f"KV_{bucket}", config))
        yield info, inbox
    finally:
        if not session.closed.is_set():
            with suppress(Exception):  # the server removes it by itself when nobody listens
                await session.call(subscription.unsubscribe(), timeout=1)


async def _next(session: Session, inbox: "asyncio.Queue[Msg]") -> Msg:
    """Return the next message or heartbeat.

    Raises: Unavailable: silence, which says that the consumer or the bucket is no more, or a lost connection.
    """
    if not inbox.empty():
        return inbox.get_nowait()
    return await session.call(inbox.get(), timeout=SILENCE_SECONDS)


def _parse(message: Msg, bucket: str) -> tuple[str, int, Value] | None:
    """Parse key, version and value of a message; None for a heartbeat or something that is not ours."""
    if (message.headers or {}).get("Status") or not message.data:
        return None
    try:
        record = json.loads(message.data)
        return decode_key(message.subject.removeprefix(f"$KV.{bucket}.")), int(record["version"]), record["value"]
    except (ValueError, KeyError, TypeError):
        _log.warning("bucket %s: %s is no record", bucket, message.subject)
        return None


async def read_all(session: Session, bucket: str) -> dict[str, tuple[int, Value]]:
    """Return all records of a bucket as they are now. Raises: Unavailable"""
    records: dict[str, tuple[int, Value]] = {}
    try:
        async with _open(session, bucket) as (info, inbox):
            left = int(info.num_pending or 0)
            while left > 0:
                message = await _next(session, inbox)
                if (message.headers or {}).get("Status"):
                    continue
                left -= 1
                record = _parse(message, bucket)
                if record is not None:
                    records[record[0]] = record[1:]
    except APIError as error:
        raise Unavailable(f"Bucket {bucket}: {error}.", reason="BUS_UNAVAILABLE") from error
    return records


class KvReader:
    """The records of a bucket as far as this process has ever seen them.

    `ready` is set once the bucket has been read whole. With `snapshot` they are also kept in a file, from which a
    new process starts before it has heard the bus.
    """

    def __init__(
        self, bus: Bus, bucket: str, on_change: Callable[[str, Value], None], snapshot: Path | None = None
    ) -> None:
        """Args: on_change: called with key and value of each newer record, None meaning gone; must return at once."""
        self._bus, self._bucket, self._on_change, self._snapshot = bus, bucket, on_change, snapshot
        self._records: dict[str, tuple[int, Value]] = {}
        self._task: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()

    def get(self, key: str) -> Value:
        """Return the value of a key now, or None."""
        record = self._records.get(key)
        return record[1] if record else None

    def values(self) -> dict[str, Mapping[str, Any]]:
        """Return all values by key, without what is gone."""
        return {key: value for key, (_, value) in self._records.items() if value is not None}

    async def start(self) -> None:
        """Load the snapshot, if there is one, then follow the bucket in the background."""
        if self._snapshot is not None:
            for key, (version, value) in _load(self._snapshot).items():
                self._apply(key, version, value, save=False)
        self._task = asyncio.create_task(self._run(), name=f"reader-{self._bucket}")

    async def stop(self) -> None:
        """Stop following, and write the snapshot."""
        await end_tasks(self._task, self._saving)
        if self._saving is not None:
            self._saving = None
            await asyncio.to_thread(self._save)

    async def _run(self) -> None:
        tries = 0
        while True:
            session = await self._bus.session()
            began = self.ready.is_set()
            try:
                await self._follow(session)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # an edge: the watch is made anew, nothing is forgotten meanwhile
                tries = 1 if self.ready.is_set() and not began else tries + 1
                known = isinstance(error, (Unavailable, APIError))
                _log.info("bucket %s is followed anew: %s", self._bucket, error, exc_info=not known)
            if not session.closed.is_set():
                await asyncio.sleep(retry_delay(tries, 0.1, 1.0))

    async def _follow(self, session: Session) -> None:
        async with _open(session, self._bucket) as (info, inbox):
            left = int(info.num_pending or 0)
            expected = 1
            if left == 0:
                self.ready.set()
            while True:
                message = await _next(session, inbox)
                if (message.headers or {}).get("Status"):
                    continue
                if int(message.metadata.sequence.consumer) != expected:
                    raise Unavailable("A record was not delivered.")
                expected += 1
                record = _parse(message, self._bucket)
                if record is not None:
                    self._apply(*record)
                left -= 1
                if left == 0:
                    self.ready.set()

    def _apply(self, key: str, version: int, value: Value, save: bool = True) -> None:
        known = self._records.get(key)
        if known is not None and (version < known[0] or known == (version, value)):
            return
        self._records[key] = (version, value)
        if save and self._snapshot is not None and self._saving is None:
            self._saving = asyncio.create_task(self._save_soon())
        self._on_change(key, value)

    async def _save_soon(self) -> None:
        await asyncio.sleep(SAVE_SECONDS)  # many changes at once are one write
        self._saving = None
        await asyncio.to_thread(self._save)

    def _save(self) -> None:
        assert self._snapshot is not None
        self._snapshot.parent.mkdir(parents=True, exist_ok=True)
        part = self._snapshot.with_name(f"{self._snapshot.name}.part")
        records = {key: list(record) for key, record in list(self._records.items())}
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(records, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._snapshot)


def _load(path: Path) -> dict[str, tuple[int, Value]]:
    try:
        raw = json.loads(path.read_text("utf-8"))
        return {str(key): (int(version), value) for key, (version, value) in raw.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, OSError) as error:
        _log.warning("the snapshot %s cannot be read and is made anew: %s", path, error)
        return {}
