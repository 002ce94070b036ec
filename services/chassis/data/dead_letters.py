"""Dead letters: messages that could not be handled, with the reason, until somebody replays them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime

from sqlalchemy import func, insert, select, update

from services.chassis.clock import now
from services.chassis.data.database import Database
from services.chassis.data.tables import dead_letters
from services.chassis.data.unit_of_work import execute, fetch
from services.chassis.errors import NotFound
from services.chassis.ids import new_id

_LONGEST_ERROR = 4000
_waiting = dead_letters.c.replay_time.is_(None)


@dataclass(frozen=True)
class DeadLetter:
    """One message, as it came, and why it could not be handled."""

    consumer: str
    subject: str
    event_id: str
    headers: Mapping[str, str]
    body: bytes
    deliveries: int
    error: str
    id: str = field(default_factory=lambda: new_id("dl-"))
    create_time: datetime = field(default_factory=now)
    replay_time: datetime | None = None


class DeadLetters:
    """The dead letters of a service's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, letter: DeadLetter) -> None:
        """Store a message that cannot be handled, with the reason."""
        values = {**asdict(letter), "error": letter.error[:_LONGEST_ERROR]}
        await execute(self._database, insert(dead_letters).values(values))

    async def page(self, limit: int, before: str = "") -> list[DeadLetter]:
        """Return the letters that wait for a replay, newest first; with `before` those older than this id."""
        query = select(dead_letters).where(_waiting).order_by(dead_letters.c.id.desc()).limit(limit)
        if before:
            query = query.where(dead_letters.c.id < before)
        return [DeadLetter(**row) for row in (await fetch(self._database, query)).mappings()]

    async def count(self) -> int:
        """Return how many letters wait for a replay."""
        query = select(func.count()).select_from(dead_letters).where(_waiting)
        return int((await fetch(self._database, query)).scalar_one())

    async def get(self, letter_id: str) -> DeadLetter:
        """Return one letter. Raises: NotFound."""
        query = select(dead_letters).where(dead_letters.c.id == letter_id)
        row = (await fetch(self._database, query)).mappings().one_or_none()
        if row is None:
            raise NotFound(f"There is no dead letter {letter_id!r}.", metadata={"resource": "dead letter"})
        return DeadLetter(**row)

    async def note_replay(self, letter: DeadLetter) -> DeadLetter:
        """Mark a letter as replayed: it waits no longer."""
        return await self._update(letter, replay_time=now())

    async def note_failure(self, letter: DeadLetter, error: str) -> DeadLetter:
        """Note that a replay failed, and why."""
        return await self._update(letter, deliveries=letter.deliveries + 1, error=error[:_LONGEST_ERROR])

    async def _update(self, letter: DeadLetter, **values: object) -> DeadLetter:
        await execute(self._database, update(dead_letters).where(dead_letters.c.id == letter.id).values(**values))
        return await self.get(letter.id)
