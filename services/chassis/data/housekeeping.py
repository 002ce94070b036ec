"""Rows of the chassis' tables that are kept for a while: dead letters, and what is swept when its time is over."""

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import delete, insert, select

from services.chassis.clock import now
from services.chassis.data.database import Database
from services.chassis.data.tables import dead_letters, inbox, outbox, requests
from services.chassis.data.unit_of_work import UnitOfWork
from services.chassis.ids import new_id

SENT_DAYS = 1.0
INBOX_DAYS = 35.0  # longer than the stream keeps what could come again
SWEEP_ROWS = 1000


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
        "id": new_id("dead-"),
        "consumer": consumer,
        "subject": subject,
        "event_id": event_id,
        "headers": dict(headers),
        "body": body,
        "deliveries": deliveries,
        "error": error[:4000],
        "create_time": now(),
    }
    async with UnitOfWork(database) as uow:
        await uow.connection.execute(insert(dead_letters).values(**letter))
        await uow.commit()
    return str(letter["id"])


async def sweep(database: Database) -> int:
    """Delete what is kept no longer, in short transactions. Returns how many rows."""
    moment = now()
    old = (
        (outbox, outbox.c.id, outbox.c.sent_time < moment - timedelta(days=SENT_DAYS)),
        (inbox, inbox.c.event_id, inbox.c.create_time < moment - timedelta(days=INBOX_DAYS)),
        (requests, requests.c.request_id, requests.c.create_time < moment - timedelta(days=database.request_days)),
    )
    swept = 0
    for table, key, too_old in old:
        while True:
            some = select(key).where(too_old).limit(SWEEP_ROWS).scalar_subquery()
            async with UnitOfWork(database) as uow:
                result = await uow.connection.execute(delete(table).where(too_old, key.in_(some)))
                await uow.commit()
            swept += result.rowcount
            if result.rowcount < SWEEP_ROWS:
                break
    return swept
