"""Dead letters: messages that could not be handled, with the reason, until somebody replays them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, func, insert, select, update

from services.chassis.clock import now
from services.chassis.data.database import Database
from services.chassis.data.tables import dead_letters
from services.chassis.data.unit_of_work import UnitOfWork
from services.chassis.errors import NotFound
from services.chassis.ids import new_id

_LONGEST_ERROR = 4000
_waiting = dead_letters.c.replay_time.is_(None)


@dataclass(frozen=True)
class DeadLetter:
    """One message, as it came, and why it could not be handled."""

    id: str
    consumer: str
    subject: str
    event_id: str
    headers: Mapping[str, str]
    body: bytes
    deliveries: int
    error: str
    create_time: datetime
    replay_time: datetime | None = None


class DeadLetters:
    """The dead letters of a service's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, limit: int, before: str = "") -> list[DeadLetter]:
        """Return the letters that wait for a replay, newest first; with `before` those older than this id."""
        query = select(dead_letters).where(_waiting).order_by(dead_letters.c.id.desc()).limit(limit)
        if before:
            query = query.where(dead_letters.c.id < before)
        async with UnitOfWork(self._database, write=False) as uow:
            return [_letter(row) for row in await uow.connection.execute(query)]

    async def count(self) -> int:
        """Return how many letters wait for a replay."""
        query = select(func.count()).select_from(dead_letters).where(_waiting)
        async with UnitOfWork(self._database, write=False) as uow:
            return int((await uow.connection.execute(query)).scalar_one())

    async def get(self, letter_id: str) -> DeadLetter:
        """Return one letter. Raises: NotFound."""
        async with UnitOfWork(self._database, write=False) as uow:
            query = select(dead_letters).where(dead_letters.c.id == letter_id)
            row = (await uow.connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound(f"There is no dead letter {letter_id!r}.", metadata={"resource": "dead letter"})
        return _letter(row)

    async def note_replay(self, letter_id: str) -> DeadLetter:
        """Mark a letter as replayed: it waits no longer."""
        return await self._update(letter_id, replay_time=now())

    async def note_failure(self, letter: DeadLetter, error: str) -> DeadLetter:
        """Note that a replay failed, and why."""
        return await self._update(letter.id, deliveries=letter.deliveries + 1, error=error[:_LONGEST_ERROR])

    async def _update(self, letter_id: str, **values: object) -> DeadLetter:
        async with UnitOfWork(self._database) as uow:
            await uow.connection.execute(update(dead_letters).where(dead_letters.c.id == letter_id).values(**values))
            await uow.commit()
        return await self.get(letter_id)


async def keep_dead_letter(
    database: Database,
    consumer: str,
    subject: str,
    event_id: str,
    headers: Mapping[str, str],
    body: bytes,
    deliveries: int,
    error: str,
) -> str:
    """Store a message that cannot be handled, with the reason. Returns its id."""
    letter = {
        "id": new_id("dl-"),
        "consumer": consumer,
        "subject": subject,
        "event_id": event_id,
        "headers": dict(headers),
        "body": body,
        "deliveries": deliveries,
        "error": error[:_LONGEST_ERROR],
        "create_time": now(),
    }
    async with UnitOfWork(database) as uow:
        await uow.connection.execute(insert(dead_letters).values(**letter))
        await uow.commit()
    return str(letter["id"])


def _letter(row: Row[tuple[object, ...]]) -> DeadLetter:
    return DeadLetter(**row._mapping)
