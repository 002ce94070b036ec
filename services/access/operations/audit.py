"""Note in the audit log what was done, and what was refused."""

from datetime import datetime

from services.access.domain.audit import OK, AuditEntry
from services.access.operations.context import ServiceContext
from services.access.store import AccessUnit
from services.chassis.auth import Principal
from services.chassis.data import Page, PageQuery
from services.chassis.ids import new_id


async def note(
    uow: AccessUnit, caller: Principal, method: str, resource_id: str, now: datetime, outcome: str = OK
) -> None:
    """Note a call in the audit log, in the transaction that makes it true."""
    key_id = caller.key_id or caller.subject
    await uow.audit.add(AuditEntry(new_id("audit-"), caller.project, key_id, method, resource_id, outcome, now))


async def note_refusal(
    caller: Principal, method: str, resource_id: str, reason: str, context: ServiceContext, now: datetime
) -> None:
    """Note a call that was refused, in a transaction of its own."""
    async with context.writing() as uow:
        await note(uow, caller, method, resource_id, now, reason)
        await uow.commit()


def by(caller: Principal) -> str:
    """Return who did something, as the cause of an event."""
    return f"Asked for by {caller.key_id or caller.subject or caller.kind}."


async def list_entries(caller: Principal, page: PageQuery, context: ServiceContext) -> Page[AuditEntry]:
    """Return what was done in the caller's project, newest first."""
    async with context.reading() as uow:
        return await uow.audit.list(caller.project, page)
