"""Repositories: frozen dataclasses in, frozen dataclasses out. A whole example:

@dataclass(frozen=True)                                     # services/notes/domain.py
class Note:
    id: str
    project: str
    name: str
    state: State                                            # an enum: stored by its name
    labels: tuple[str, ...] = ()                            # JSON, comes back as a tuple
    version: int = 1
    create_time: datetime = …

    def apply(self, …) -> "Note":                           # bumps the version itself
        return replace(self, state=…, version=self.version + 1)

metadata = chassis_metadata()                               # services/notes/store.py
NOTES = table_of(Note, metadata, "notes")

class NotesUnit(UnitOfWork):
    def __init__(self, database: Database, *, write: bool = True) -> None:
        super().__init__(database, write=write)
        self.notes = Repository(self, NOTES, Note, "note", filterable=("state", "name"), sortable=("name",))

# services/notes/migrations/versions/0001_initial.py is what `python -m services.chassis.data.migration
# services.notes.store` prints. Then, in __main__ and in an operation:

database = await Database.open(settings.database_url, "notes", Path(__file__).parent / "migrations")

async with NotesUnit(database) as uow:
    note = await uow.notes.get(project, "groceries")        # by id or name; NotFound otherwise
    await uow.notes.save(note.apply(…))                     # Conflict if somebody was faster
    uow.emit(Event(project, "note", note.id, "closed", "CLOSED", version=note.version))
    await uow.commit()
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Column, ColumnElement, Select, Table, case, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from services.chassis.data.columns import table_of
from services.chassis.data.listing import Order, Page, PageQuery, fingerprint, make_token, parse_filter, read_token
from services.chassis.data.tables import chassis_metadata
from services.chassis.data.unit_of_work import UnitOfWork
from services.chassis.errors import AlreadyExists, Conflict, NotFound

__all__ = ["Entity", "Page", "PageQuery", "Repository", "chassis_metadata", "check_etag", "table_of"]


class Entity(Protocol):
    """What a repository needs of a dataclass. `name` and `create_time` are used if they are there."""

    @property
    def id(self) -> str:
        """Given by the system."""

    @property
    def project(self) -> str:
        """Whose it is."""

    @property
    def version(self) -> int:
        """1 when it is made, one more after each change."""


E = TypeVar("E", bound=Entity)


def check_etag(kind: str, ref: str, etag: str, version: int) -> None:
    """Refuse an update that was made from an older version. No etag means: whatever it is now.

    Raises: Conflict(reason="ETAG_MISMATCH")
    """
    if etag and etag.strip('"') != str(version):
        raise Conflict(
            f"The {kind} {ref!r} has changed since you read it. Read it again, then repeat your change.",
            reason="ETAG_MISMATCH",
            metadata={"etag": str(version)},
        )


class Repository(Generic[E]):
    """The rows of one kind of entity, inside a unit of work."""

    def __init__(
        self,
        uow: UnitOfWork,
        table: Table,
        entity_type: type[E],
        kind: str,
        *,
        filterable: Sequence[str] | Mapping[str, str] = (),
        sortable: Sequence[str] | Mapping[str, str] = (),
    ) -> None:
        """`filterable` and `sortable` are columns, or names that callers write -> columns."""
        self._uow, self._table, self._type, self._kind = uow, table, entity_type, kind
        self._names = table.c.keys()
        self._filterable = self._columns(filterable)
        self._sortable = self._columns(sortable)

    def _columns(self, names: Sequence[str] | Mapping[str, str]) -> dict[str, Column[Any]]:
        pairs = names.items() if isinstance(names, Mapping) else zip(names, names, strict=True)
        return {public: self._table.c[column] for public, column in pairs}

    async def get(self, project: str, ref: str) -> E:
        """The entity with this id or name in the project; in a writing unit it cannot change until the unit ends.

        Raises: NotFound: there is none, also when another project has it.
        """
        entity = await self.find(project, ref)
        if entity is None:
            raise NotFound.of(self._kind, ref)
        return entity

    async def find(self, project: str, ref: str) -> E | None:
        """Like `get`, but None if there is none. An id wins over a name that looks like one."""
        columns = self._table.c
        if "\0" in ref:  # PostgreSQL would refuse the question itself
            return None
        same: ColumnElement[bool] = columns.id == ref
        if "name" in columns and ref:
            same = or_(same, columns.name == ref)
        query = select(self._table).where(columns.project == project, same)
        found = await self._all(query.order_by(case((columns.id == ref, 0), else_=1)).limit(1))
        return found[0] if found else None

    async def by_id(self, entity_id: str) -> E | None:
        """The entity of any project, for the system's own use; never with an id that a caller gave."""
        found = await self._all(select(self._table).where(self._table.c.id == entity_id))
        return found[0] if found else None

    async def select(
        self, *conditions: ColumnElement[bool], order_by: Sequence[Any] = (), limit: int | None = None
    ) -> list[E]:
        """The entities of all projects that fulfil all conditions, for the system's own use."""
        return await self._all(select(self._table).where(*conditions).order_by(*order_by).limit(limit))

    async def count(self, *conditions: ColumnElement[bool]) -> int:
        """How many fulfil all conditions."""
        query = select(func.count()).select_from(self._table).where(*conditions)
        return int((await self._uow.connection.execute(query)).scalar_one())

    async def _all(self, query: Select[Any]) -> list[E]:
        if self._uow.locks_rows:
            query = query.with_for_update()
        return [self._entity(row) for row in (await self._uow.connection.execute(query)).mappings()]

    def _entity(self, row: Mapping[Any, Any]) -> E:
        return self._type(**{str(name): value for name, value in row.items()})

    def _row(self, entity: E) -> dict[str, Any]:
        return {name: getattr(entity, name) for name in self._names}

    async def add(self, entity: E) -> None:
        """Insert a new entity.

        Raises: AlreadyExists: its name (or what else must be unique) is taken.
        """
        connection = self._uow.connection
        try:
            # The inner transaction keeps PostgreSQL's outer one usable after a refusal.
            async with connection.begin_nested():
                await connection.execute(insert(self._table).values(self._row(entity)))
        except IntegrityError as error:
            name = getattr(entity, "name", "") or entity.id
            raise AlreadyExists(
                f"There is already a {self._kind} {name!r} in this project.",
                metadata={"resource": self._kind, "name": name},
            ) from error

    async def save(self, entity: E) -> None:
        """Write a changed entity, whose version is one more than that of its row.

        Raises: Conflict: the row has changed meanwhile, or is gone. AlreadyExists: its new name is taken.
        """
        same = (self._table.c.id == entity.id, self._table.c.version == entity.version - 1)
        connection = self._uow.connection
        try:
            async with connection.begin_nested():
                result = await connection.execute(update(self._table).where(*same).values(self._row(entity)))
        except IntegrityError as error:
            name = getattr(entity, "name", "")
            raise AlreadyExists(f"There is already a {self._kind} {name!r} in this project.") from error
        self._expect_one(result.rowcount, entity)

    async def delete(self, entity: E) -> None:
        """Remove an entity as it was loaded.

        Raises: Conflict: it has changed meanwhile, or is gone.
        """
        same = (self._table.c.id == entity.id, self._table.c.version == entity.version)
        result = await self._uow.connection.execute(delete(self._table).where(*same))
        self._expect_one(result.rowcount, entity)

    def _expect_one(self, rows: int, entity: E) -> None:
        if rows != 1:
            raise Conflict(
                f"The {self._kind} {entity.id!r} was changed by somebody else at the same time; try again.",
                metadata={"resource": self._kind, "id": entity.id},
            )

    async def list(self, project: str, page: PageQuery, *, shared: str | None = None, **equals: Any) -> Page[E]:
        """A page of the project's entities, newest first if nothing else is asked.

        Args:
            shared: a further owner whose entities every project sees (presets).
            equals: further columns and the values that they must have (`job_id="ftjob-…"`).

        Raises: Invalid: page_size, page_token, filter or order_by cannot be accepted; it names the field.
        """
        columns = self._table.c
        order = Order(page.order_by, self._sortable, columns.id, columns.get("create_time"))
        bound_to = fingerprint(project, page.filter, page.order_by, sorted(equals.items(), key=lambda pair: pair[0]))
        owners = [project] if shared is None else [project, shared]
        query = select(self._table).where(columns.project.in_(owners))
        query = query.where(*(columns[name] == value for name, value in equals.items()))
        query = query.where(*parse_filter(page.filter, self._filterable))
        if page.page_token:
            query = query.where(order.after(read_token(page.page_token, bound_to, order)))
        found = await self._all(query.order_by(*order.clauses()).limit(page.limit + 1))
        items = tuple(found[: page.limit])
        more = len(found) > len(items)
        return Page(items, make_token(bound_to, order.values(items[-1])) if more else "")
