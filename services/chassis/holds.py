"""Holds: who uses a version, so that it is not deleted meanwhile.

A hold is taken when a reference is resolved, and falls unless it is confirmed in time, by a call or by the holder's
first event; the holder's last event lets it go.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import MetaData, Table, and_, delete, or_, select, update

from services.chassis.data import Database, UnitOfWork, table_of
from services.chassis.errors import WrongState


@dataclass(frozen=True)
class Hold:
    """A job, evaluation or deployment that uses a version; the version is not deleted while it does."""

    version_id: str
    holder: str
    project: str
    confirmed: bool
    hold_time: datetime


def holds_table(metadata: MetaData) -> Table:
    """Return the table of a service's holds."""
    return table_of(Hold, metadata, "holds", key=("version_id", "holder"), indexes=(("holder",),))


class Holds:
    """The holds of a service, inside a unit of work."""

    def __init__(self, uow: UnitOfWork, table: Table) -> None:
        self._uow, self._table = uow, table

    async def take(self, hold: Hold) -> None:
        """Take a hold; one that is there stays what it is."""
        await self._uow.insert_new(self._table, asdict(hold))

    async def confirm(self, project: str, holder: str) -> None:
        """Make the holds of a holder lasting."""
        same = and_(self._table.c.project == project, self._table.c.holder == holder)
        await self._uow.connection.execute(update(self._table).where(same).values(confirmed=True))

    async def release(self, project: str, holder: str) -> None:
        """Let go of everything that a holder holds."""
        same = and_(self._table.c.project == project, self._table.c.holder == holder)
        await self._uow.connection.execute(delete(self._table).where(same))

    async def holders(self, version_ids: Sequence[str], oldest: datetime) -> list[str]:
        """Return who holds any of the versions; unconfirmed holds count when they are younger than `oldest`."""
        columns = self._table.c
        lasting = or_(columns.confirmed.is_(True), columns.hold_time > oldest)
        query = select(columns.holder).where(columns.version_id.in_(version_ids), lasting).distinct()
        return list((await self._uow.connection.execute(query)).scalars())

    async def drop_fallen(self, oldest: datetime) -> None:
        """Remove unconfirmed holds that are not younger."""
        columns = self._table.c
        fallen = and_(columns.confirmed.is_(False), columns.hold_time <= oldest)
        await self._uow.connection.execute(delete(self._table).where(fallen))

    async def forget(self, version_id: str) -> None:
        """Remove the holds of a version that is deleted."""
        await self._uow.connection.execute(delete(self._table).where(self._table.c.version_id == version_id))


class HoldingUnit(UnitOfWork):
    """A unit of work with holds."""

    def __init__(self, database: Database, table: Table, *, write: bool = True) -> None:
        super().__init__(database, write=write)
        self.holds = Holds(self, table)


async def confirm_holds(uow: HoldingUnit, project: str, holder: str, event_id: str = "") -> None:
    """Make the holds of a holder lasting. `event_id` is noted, when an event said so."""
    async with uow:
        if not event_id or await uow.first_time(event_id, "holds"):
            await uow.holds.confirm(project, holder)
            await uow.commit()


async def release_holds(uow: HoldingUnit, project: str, holder: str, event_id: str = "") -> None:
    """Let go of everything that a holder holds."""
    async with uow:
        if not event_id or await uow.first_time(event_id, "holds"):
            await uow.holds.release(project, holder)
            await uow.commit()


async def drop_fallen_holds(uow: HoldingUnit, oldest: datetime) -> None:
    """Remove holds that nobody confirmed in time."""
    async with uow:
        await uow.holds.drop_fallen(oldest)
        await uow.commit()


def refuse_held(kind: str, ref: str, holders: Iterable[str]) -> None:
    """Refuse to delete what something holds, naming the holders. Raises: WrongState."""
    names = sorted(set(holders))
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise WrongState(
            f"The {kind} {ref!r} cannot be deleted: it is used by {shown}.",
            reason="IN_USE",
            metadata={"holders": ",".join(names[:20])},
        )
