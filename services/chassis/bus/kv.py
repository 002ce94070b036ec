"""Derived records in KV buckets: written by their owner, followed by readers that must go on without it.

A record is `{"version": N, "value": {…}}`; a thing that is gone is a record whose value is null, not a deleted key.
Versions only grow. Readers ignore a lower version and never drop a key because the bucket lost it, so that a wiped
bucket takes nothing away and a revoked key stays revoked.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import APIError, NotFoundError

from services.chassis.background import BackgroundLoop
from services.chassis.bus.connection import Bus
from services.chassis.bus.kv_reader import read_all
from services.chassis.bus.session import Session
from services.chassis.errors import Unavailable
from services.chassis.settings import Settings

CAS_TRIES = 10
_NAMED = 10  # records that a warning names

_EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
_WRONG_LAST_SEQUENCE = 10071
_log = logging.getLogger(__name__)

Value = Mapping[str, Any] | None
Records = Mapping[str, tuple[int, Value]]


def encode_key(key: str) -> str:
    """Return any text as a key that NATS accepts: what it does not is written `=XX` (`ft:a` -> `ft=3Aa`)."""
    if not key:
        raise ValueError("a key is empty")
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
    return "".join(c if c in plain else "".join(f"={byte:02X}" for byte in c.encode()) for c in key)


def parse_record(body: str) -> tuple[str, int, Value]:
    """Parse key, version and value of an outbox row."""
    record = json.loads(body)
    return record["key"], record["version"], record["value"]


class KvWriter:
    """Put records into a bucket, never an older over a newer one."""

    def __init__(self, bus: Bus, bucket: str) -> None:
        self._bus, self.bucket = bus, bucket
        self._ensured = 0  # the connection on which the bucket is known to exist

    async def put(self, key: str, version: int, value: Value) -> bool:
        """Put a record and wait for the acknowledgement. False: the bucket has it, or a newer one, already.

        Raises: Unavailable: no connection, or no acknowledgement.
        """
        session = self._bus.now()
        await self._ensure(session)
        data = json.dumps({"version": version, "value": value}, ensure_ascii=False).encode()
        for _ in range(CAS_TRIES):
            revision, stored = await self._last(session, key)
            if stored is not None and (_version(stored) > version or stored == data):
                return False
            try:
                headers = {_EXPECTED_LAST: str(revision)}
                await self._bus.publish(f"$KV.{self.bucket}.{encode_key(key)}", data, headers)
            except APIError as error:
                if error.err_code != _WRONG_LAST_SEQUENCE:
                    raise Unavailable(f"Bucket {self.bucket}: {error}.", reason="BUS_UNAVAILABLE") from error
                continue  # another writer was faster: look again
            except Unavailable:
                self._ensured = 0  # perhaps the bucket is gone
                raise
            return True
        raise Unavailable(f"Bucket {self.bucket}: the record {key!r} is written by too many at once.")

    async def read_all(self) -> dict[str, tuple[int, Value]]:
        """Return all records of the bucket by key. Raises: Unavailable"""
        session = self._bus.now()
        await self._ensure(session)
        return await read_all(session, self.bucket)

    async def _last(self, session: Session, key: str) -> tuple[int, bytes | None]:
        """Return revision and data of a key's record; (0, None) if there is none."""
        try:
            subject = f"$KV.{self.bucket}.{encode_key(key)}"
            message = await session.call(session.js.get_msg(f"KV_{self.bucket}", subject=subject))
        except NotFoundError:
            return 0, None
        except APIError as error:
            raise Unavailable(f"Bucket {self.bucket}: {error}.", reason="BUS_UNAVAILABLE") from error
        return int(message.seq or 0), message.data

    async def _ensure(self, session: Session) -> None:
        if self._ensured == session.number:
            return
        config = KeyValueConfig(bucket=self.bucket, history=1, storage=StorageType.FILE)
        try:
            await session.call(session.js.create_key_value(config))
        except APIError as error:
            raise Unavailable(f"Bucket {self.bucket}: {error}.", reason="BUS_UNAVAILABLE") from error
        self._ensured = session.number


def _version(data: bytes) -> int:
    try:
        return int(json.loads(data)["version"])
    except (ValueError, KeyError, TypeError):
        return -1  # not ours: anything is newer


class KvKeeper(BackgroundLoop):
    """Compares a bucket with the database of its owner: at start, at each connect and every minute."""

    def __init__(
        self,
        bus: Bus,
        bucket: str,
        records: Callable[[], Awaitable[Records]],
        settings: Settings,
        overtake: Callable[[Records], Awaitable[None]] | None = None,
    ) -> None:
        """Args:
        records: reads from the database what the bucket should hold: key -> (version, value).
        overtake: raises the versions in the database above those of the records that it is given, which the bucket
            holds: as after a restore of an older copy, when readers would take every change for an old one.
        """
        self.writer = KvWriter(bus, bucket)
        super().__init__(
            f"comparison of bucket {bucket}",
            self._compare_if_connected,
            settings.compare_seconds,
            retry_max_seconds=settings.retry_max_seconds,
        )
        self._bus, self._records, self._overtake = bus, records, overtake
        self.compared = False
        """Whether the bucket was compared since the start: before, a record may lie below what the bucket holds."""
        bus.on_connect(self.kick)

    async def compare(self) -> int:
        """Put what the bucket lacks or has older; what the database does not know is put as gone. Returns how many.

        The bucket is read first: what it holds is then at least as old as what the database says.
        """
        stored = await self.writer.read_all()
        wanted = await self._records()
        ahead = {key: stored[key] for key, (version, _) in wanted.items() if key in stored and stored[key][0] > version}
        if ahead and self._overtake is not None:
            _log.warning(
                "bucket %s holds newer versions of %d records than the database, as after a restore of an older copy; "
                "the database's are raised above them: %s",
                self.writer.bucket, len(ahead), ", ".join(sorted(ahead)[:_NAMED]),
            )  # fmt: skip
            await self._overtake(ahead)
            wanted = await self._records()
        put = 0
        for key, (version, value) in wanted.items():
            if stored.get(key) != (version, value):
                put += await self.writer.put(key, version, value)
        for key, (version, value) in stored.items():
            if key not in wanted and value is not None:
                _log.warning("bucket %s has %r, which the database does not know", self.writer.bucket, key)
                put += await self.writer.put(key, version + 1, None)
        self.compared = True
        return put

    async def _compare_if_connected(self) -> None:
        if not self._bus.connected:  # the bus says so itself, and each connect brings the next comparison
            return
        if put := await self.compare():
            _log.info("bucket %s: %d records put", self.writer.bucket, put)
