"""The tables that every service's database has beside its own: outbox, inbox, dead letters and requests.

This is what the code reads and writes now. `migration.create_chassis_tables` makes them.
"""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, Text

from services.chassis.data.columns import NAMES, JsonOf, UtcTime

_Counter = BigInteger().with_variant(Integer, "sqlite")
_Headers = JsonOf(dict[str, str])

chassis = MetaData(naming_convention=NAMES)

outbox = Table(
    "outbox",
    chassis,
    Column("id", _Counter, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),  # "event", or "record" of a KV bucket
    Column("event_id", Text, nullable=False, unique=True),
    Column("ordering_key", Text, nullable=False),  # rows of one key are sent one after the other
    Column("subject", Text, nullable=False),  # of a record: its bucket
    Column("headers", _Headers, nullable=False),
    Column("body", Text, nullable=False),
    Column("terminal", Boolean, nullable=False),
    Column("create_time", UtcTime, nullable=False),
    Column("first_sent_time", UtcTime),
    Column("sent_time", UtcTime),
    Column("sequence", BigInteger),  # where the stream keeps it
    sqlite_autoincrement=True,  # an id is never used again, also after the rows are swept
)
_unsent = outbox.c.sent_time.is_(None)
Index("ix_outbox_unsent", outbox.c.id, sqlite_where=_unsent, postgresql_where=_unsent)
Index("ix_outbox_sent_time", outbox.c.sent_time)

inbox = Table(
    "inbox",
    chassis,
    Column("consumer", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("create_time", UtcTime, nullable=False, index=True),
)

dead_letters = Table(
    "dead_letters",
    chassis,
    Column("id", Text, primary_key=True),
    Column("consumer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("headers", _Headers, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("deliveries", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("create_time", UtcTime, nullable=False, index=True),
    Column("replay_time", UtcTime),
)

# What a request id made. Of a resource that was deleted it has a row too, see `UnitOfWork.note_deleted`.
requests = Table(
    "requests",
    chassis,
    Column("project", Text, primary_key=True),
    Column("method", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("resource_id", Text, nullable=False),
    Column("create_time", UtcTime, nullable=False, index=True),
)


def chassis_metadata() -> MetaData:
    """Return a new MetaData for a service's tables, which already holds the chassis' ones."""
    metadata = MetaData(naming_convention=NAMES)
    for table in chassis.sorted_tables:
        table.to_metadata(metadata)
    return metadata
