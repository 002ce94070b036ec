"""Files that nothing refers to any more: noted in the transaction that forgets them, deleted afterwards.

    GARBAGE = garbage_table(metadata)                              # store.py, and a migration
    await discard(uow, GARBAGE, bucket, prefix)                    # in the transaction that deletes the owner
    context.garbage.kick()                                         # after it, or wait for the next round

A process that is killed in between leaves the row, so that the next one deletes the files. What cannot be deleted is
tried again after a delay that doubles up to an hour, and is named in readiness (`degraded`) and in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import MetaData, Table, and_, delete, func, select, update

from services.chassis.background import BackgroundLoop
from services.chassis.clock import now
from services.chassis.data import Database, UnitOfWork, execute, fetch, table_of
from services.chassis.errors import ModelryError, NotFound, OverLimit, Unavailable
from services.chassis.readiness import Lack

if TYPE_CHECKING:
    from services.chassis.objects import StoreAccess

_log = logging.getLogger(__name__)
PERIOD_SECONDS = 30.0
_BATCH = 50
_FOREIGN_SECONDS = 60.0
"""How long the deletion of one folder at the store of a credential may take; the next round goes on."""
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 5.0, 3600.0
_NAMED_AFTER = 3
"""Failed attempts after which readiness names what could not be deleted."""
_KEY = ("project", "credential", "bucket", "prefix")


@dataclass(frozen=True)
class Garbage:
    """A folder to delete. Without a project it lies on the installation's own store.

    Attributes:
        bucket: empty for that of the credential.
        attempts: how often it could not be deleted, the last time for `last_error`.
        next_time: not before then.
    """

    next_time: datetime
    bucket: str
    prefix: str
    project: str = ""
    credential: str = ""
    attempts: int = 0
    last_error: str = ""

    def failed(self, error: str, moment: datetime) -> Garbage:
        """Return it after one more attempt that failed."""
        delay = min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** min(self.attempts, 20))
        next_time = moment + timedelta(seconds=delay)
        return replace(self, next_time=next_time, attempts=self.attempts + 1, last_error=error[:500])


OpenStore = Callable[[Garbage], Awaitable[tuple["StoreAccess", str]]]
"""The store and the bucket of some garbage. Raises: NotFound: they are gone, and the files with them."""


def on_store(access: StoreAccess) -> OpenStore:
    """Return the opener for garbage that lies on the installation's own store."""

    async def open_store(garbage: Garbage) -> tuple[StoreAccess, str]:
        return access, garbage.bucket

    return open_store


def garbage_table(metadata: MetaData) -> Table:
    """Return the table of a service's garbage."""
    return table_of(Garbage, metadata, "garbage", key=_KEY, unique=(), indexes=(("next_time",),))


async def discard(
    uow: UnitOfWork, table: Table, bucket: str, prefix: str, project: str = "", credential: str = ""
) -> None:
    """Note a folder that is to be deleted once this unit commits; once is enough."""
    await uow.insert_new(table, asdict(Garbage(now(), bucket, prefix, project, credential)))


class GarbageCollector(BackgroundLoop):
    """Delete a service's garbage: a part of its process."""

    def __init__(
        self, database: Database, table: Table, open_store: OpenStore, period_seconds: float = PERIOD_SECONDS
    ) -> None:
        self._database, self._table, self._open = database, table, open_store
        from services.chassis.objects import ForeignStores

        self._foreign = ForeignStores()
        super().__init__("deletion of files", self.tick, period_seconds, at_once=False)
        self._stuck: Lack | None = None

    def degraded(self) -> list[Lack]:
        """Return why the loop fails, or what could not be deleted several times."""
        return [*super().degraded(), *([self._stuck] if self._stuck else [])]

    async def tick(self) -> int:
        """Delete what is due. Returns: how many folders are gone."""
        columns = self._table.c
        due = select(self._table).where(columns.next_time <= now()).order_by(columns.next_time).limit(_BATCH)
        groups: dict[tuple[str, str], list[Garbage]] = {}
        for row in (await fetch(self._database, due)).mappings():
            groups.setdefault((row["project"], row["credential"]), []).append(Garbage(**row))
        done = sum(await asyncio.gather(*map(self._remove_all, groups.values())))
        await self._look_for_stuck()
        return done

    async def _remove_all(self, group: list[Garbage]) -> int:
        """Delete the folders of one credential; a store that does not answer is asked for none but the first."""
        done, away = 0, ""
        for garbage in group:
            problem = away
            try:
                if not away:
                    await self._remove(garbage)
            except NotFound:  # the credential or the bucket is gone, and the files with it
                pass
            except ModelryError as error:
                problem = error.message
                away = problem if isinstance(error, Unavailable | OverLimit) else ""
            except Exception as error:  # an edge: what nobody foresaw of one folder keeps no other from deletion
                _log.exception("%s/%s", garbage.bucket, garbage.prefix)
                problem = str(error) or type(error).__name__
            await self._note(garbage, problem)
            done += not problem
        return done

    async def _remove(self, garbage: Garbage) -> None:
        from services.chassis.objects import ObjectStore  # it loads the S3 library: not before it is needed

        access, bucket = await self._open(garbage)
        remove = partial(ObjectStore(access).delete_prefix, bucket, garbage.prefix)
        await self._foreign.run(garbage.project, access, remove, seconds=_FOREIGN_SECONDS)

    async def _note(self, garbage: Garbage, problem: str) -> None:
        """Forget a folder that is gone, or note why it is not."""
        if problem:
            _log.warning("%s/%s cannot be deleted now: %s", garbage.bucket, garbage.prefix, problem)
        same = and_(*(self._table.c[name] == getattr(garbage, name) for name in _KEY))
        statement = update(self._table).where(same).values(asdict(garbage.failed(problem, now())))
        await execute(self._database, statement if problem else delete(self._table).where(same))

    async def _look_for_stuck(self) -> None:
        columns = self._table.c
        stuck = columns.attempts >= _NAMED_AFTER
        query = select(self._table, func.count().over()).where(stuck).order_by(columns.attempts.desc()).limit(1)
        worst = (await fetch(self._database, query)).first()
        if worst is None:
            self._stuck = None
            return
        words = f"{worst[-1]} folders cannot be deleted, such as {worst.bucket}/{worst.prefix}: {worst.last_error}"
        self._stuck = Lack("deletion of files", words, self._stuck.since if self._stuck else now())
