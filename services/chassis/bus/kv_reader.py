"""Following a KV bucket: a snapshot, then each change, through restarts of NATS and losses of the bucket."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from services.chassis.bus.connection import Bus
from services.chassis.bus.session import Session
from services.chassis.bus.snapshot import Records, Snapshot, Value
from services.chassis.errors import Unavailable
from services.chassis.tasks import end_tasks

HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS = 3.5

_log = logging.getLogger(__name__)


def decode_key(text: str) -> str:
    """Return a key as it was before `encode_key`."""
    raw = re.sub(rb"=([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), text.encode())
    return raw.decode("utf-8", "replace")


async def _follow(session: Session, bucket: str) -> AsyncGenerator[tuple[str, int, Value] | None]:
    """Yield key, version and value of each key's last record, then None, then every later record.

    Raises: Unavailable: one was not delivered; silence, which says that the consumer or the bucket is no more; or a
        lost connection.
    """
    async with session.inbox() as (deliver, inbox):
        config = ConsumerConfig(
            deliver_subject=deliver,
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            filter_subject=f"$KV.{bucket}.>",
            ack_policy=AckPolicy.NONE,
            idle_heartbeat=HEARTBEAT_SECONDS,
            inactive_threshold=10,
            mem_storage=True,
        )
        info = await session.call(session.js.add_consumer(f"KV_{bucket}", config))
        count, left = 0, int(info.num_pending or 0)
        if left == 0:
            yield None
        while True:
            message = await session.call(inbox.get(), SILENCE_SECONDS) if inbox.empty() else inbox.get_nowait()
            if (message.headers or {}).get("Status"):  # a heartbeat
                continue
            count += 1
            if int(message.metadata.sequence.consumer) != count:
                raise Unavailable("A record was not delivered.")
            record = _parse(message, bucket)
            if record is not None:
                yield record
            if count == left:
                yield None


def _parse(message: Msg, bucket: str) -> tuple[str, int, Value] | None:
    """Parse key, version and value of a message; None for something that is not ours."""
    if not message.data:
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
        async with aclosing(_follow(session, bucket)) as following:
            async for record in following:
                if record is None:
                    break
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
        self._bus, self._bucket, self._on_change = bus, bucket, on_change
        self._records: Records = {}
        self._snapshot = Snapshot(snapshot, self._records.copy) if snapshot else None
        self._task: asyncio.Task[None] | None = None
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
            for key, (version, value) in self._snapshot.load().items():
                self._apply(key, version, value, save=False)
        self._task = asyncio.create_task(self._bus.on_each(self._follow, f"reader of bucket {self._bucket}"))

    async def stop(self) -> None:
        """Stop following, and write the snapshot."""
        await end_tasks(self._task)
        if self._snapshot is not None:
            await self._snapshot.stop()

    async def _follow(self, session: Session) -> None:
        async with aclosing(_follow(session, self._bucket)) as following:
            async for record in following:
                if record is None:
                    self.ready.set()
                else:
                    self._apply(*record)

    def _apply(self, key: str, version: int, value: Value, save: bool = True) -> None:
        known = self._records.get(key)
        if known is not None and (version < known[0] or known == (version, value)):
            return
        self._records[key] = (version, value)
        if save and self._snapshot is not None:
            self._snapshot.changed()
        self._on_change(key, value)
