"""Rows of the chassis' tables that are kept for a while, and swept when their time is over."""

from datetime import timedelta

from sqlalchemy import delete, select

from services.chassis.clock import now
from services.chassis.data.database import Database
from services.chassis.data.tables import inbox, outbox, requests
from services.chassis.data.unit_of_work import execute

SENT_DAYS = 1.0
INBOX_DAYS = 35.0  # longer than the stream keeps what could come again
SWEEP_ROWS = 1000


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
            result = await execute(database, delete(table).where(too_old, key.in_(some)))
            swept += result.rowcount
            if result.rowcount < SWEEP_ROWS:
                break
    return swept
