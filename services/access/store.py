"""The tables of access, and the unit of work over them."""

from collections.abc import Collection

from sqlalchemy import select

from modelry.access.v1 import access_pb2
from modelry.billing.v1 import billing_pb2
from services.access.domain.audit import AuditEntry
from services.access.domain.credentials import Credential
from services.access.domain.keys import ApiKey
from services.access.domain.money import Price, Quote, Reservation, UsageRecord
from services.access.domain.projects import Project
from services.chassis.data import Database, Repository, UnitOfWork, chassis_metadata, outbox, table_of

metadata = chassis_metadata()
PROJECTS = table_of(Project, metadata, "projects")
KEYS = table_of(ApiKey, metadata, "api_keys", indexes=(("deployment_id",),))
CREDENTIALS = table_of(Credential, metadata, "credentials")
AUDIT = table_of(AuditEntry, metadata, "audit_entries")
PRICES = table_of(Price, metadata, "prices")
QUOTES = table_of(Quote, metadata, "quotes", indexes=(("expire_time",),))
RESERVATIONS = table_of(Reservation, metadata, "reservations", indexes=(("state", "hold_until"),))
USAGE = table_of(UsageRecord, metadata, "usage_records")


class AccessUnit(UnitOfWork):
    """A unit of work with the repositories of access."""

    def __init__(self, database: Database, *, write: bool = True) -> None:
        super().__init__(database, write=write)
        self.projects = Repository(self, PROJECTS, Project, "project", message=access_pb2.Project)
        self.keys = Repository(self, KEYS, ApiKey, "API key", message=access_pb2.ApiKey)
        self.credentials = Repository(self, CREDENTIALS, Credential, "credential", message=access_pb2.Credential)
        self.audit = Repository(
            self,
            AUDIT,
            AuditEntry,
            "audit entry",
            message=access_pb2.AuditEntry,
        )
        self.prices = Repository(self, PRICES, Price, "price")
        self.quotes = Repository(self, QUOTES, Quote, "quote")
        self.reservations = Repository(self, RESERVATIONS, Reservation, "reservation")
        self.usage = Repository(
            self,
            USAGE,
            UsageRecord,
            "usage record",
            message=billing_pb2.UsageRecord,
        )

    async def unsent(self, ordering_keys: Collection[str]) -> dict[str, str]:
        """Return what the outbox still holds under these keys: id of the row -> its ordering key."""
        query = select(outbox.c.event_id, outbox.c.ordering_key).where(
            outbox.c.sent_time.is_(None), outbox.c.ordering_key.in_(ordering_keys)
        )
        return {row.event_id: row.ordering_key for row in await self.connection.execute(query)}
