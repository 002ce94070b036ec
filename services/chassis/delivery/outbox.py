"""The rows of the outbox as the relay needs them: taken and marked in batches, by statements that are made once."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, select, update

from services.chassis.clock import now
from services.chassis.data import Database, execute, fetch, outbox

ROUND_ROWS = 512

_unsent = outbox.c.sent_time.is_(None)

_COUNT = select(func.count()).select_from(outbox).where(_unsent)
_TAKE = select(outbox).where(_unsent, outbox.c.kind == bindparam("of_kind")).order_by(outbox.c.id).limit(ROUND_ROWS)
_MARK = update(outbox).where(outbox.c.id == bindparam("row_id"))  # what is set are the other parameters
_SENT_TIME = select(outbox.c.sent_time).where(outbox.c.event_id == bindparam("of_event"))
_SENT_SINCE = (
    select(outbox.c.id, outbox.c.event_id, outbox.c.sequence)
    .where(outbox.c.sent_time >= bindparam("oldest"), outbox.c.sequence.is_not(None))
    .order_by(outbox.c.sequence.desc())
)


class Outbox:
    """The outbox of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count_unsent(self) -> int:
        """Return how many rows are not sent yet."""
        return int((await fetch(self._database, _COUNT)).scalar_one())

    async def is_sent(self, event_id: str) -> bool:
        """Return whether a row is marked as sent."""
        return (await fetch(self._database, _SENT_TIME, {"of_event": event_id})).scalar() is not None

    async def take(self, kind: str) -> Sequence[Any]:
        """Return the oldest unsent rows, as they were before; those sent for the first time are marked so, durably."""
        rows = (await fetch(self._database, _TAKE, {"of_kind": kind})).all()
        moment = now()
        await self._mark([{"row_id": row.id, "first_sent_time": moment} for row in rows if row.first_sent_time is None])
        return rows

    async def mark_sent(self, done: Sequence[tuple[Any, int | None]]) -> None:
        """Mark rows as sent, each with its sequence in the stream."""
        moment = now()
        await self._mark([{"row_id": row.id, "sent_time": moment, "sequence": sequence} for row, sequence in done])

    async def mark_unsent(self, row_ids: Sequence[int]) -> None:
        """Have rows sent again."""
        await self._mark([{"row_id": row_id, "sent_time": None, "sequence": None} for row_id in row_ids])

    async def sent_since(self, oldest: datetime) -> Sequence[Any]:
        """Return the rows that were sent lately: id, event and sequence, the newest first."""
        return (await fetch(self._database, _SENT_SINCE, {"oldest": oldest})).all()

    async def _mark(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            await execute(self._database, _MARK, rows)
