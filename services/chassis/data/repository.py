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
        self.notes = Repository(self, NOTES, Note, "note", message=pb.Note)

# services/notes/migrations/versions/0001_initial.py is what `python -m services.chassis.data.migration
# services.notes.store` prints. Then, in __main__ and in an operation:

database = await Database.open(settings.database_url, "notes", Path(__file__).parent / "migrations")

async with NotesUnit(database) as uow:
    note = await uow.notes.get(project, "groceries")        # by id or name; NotFound otherwise
    await uow.notes.save(note.apply(…))                     # Conflict if somebody was faster
    uow.emit(Event(project, "note", note.id, "closed", "CLOSED", version=note.version))
    await uow.commit()
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Column, ColumnElement, Select, Table, select
from sqlalchemy.exc import IntegrityError

from modelry.common.v1 import options_pb2
from services.chassis.data.filters import parse_filter
from services.chassis.data.listing import Order, Page, PageQuery, fingerprint, make_token, read_token
from services.chassis.data.statements import statements_of
from services.chassis.data.unit_of_work import UnitOfWork
from services.chassis.errors import AlreadyExists, Conflict, NotFound
from services.chassis.field_options import marked


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

ROWS_ON_LOOP = 100
"""More rows than these become entities in a thread."""


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
        message: type[Message] | None = None,
        columns: Mapping[str, str] | None = None,
        default_order: str = "",
    ) -> None:
        """Args:
        message: the resource in the protos, whose options `filterable` and `sortable` say what a list may ask for.
        columns: columns of its fields, where they have another name.
        default_order: column that a list is ordered by if nothing else is asked; empty: the newest first.
        """
        uow.announcements.kept = True
        self._uow, self._table, self._type, self._kind = uow, table, entity_type, kind
        self._statements = statements_of(table, uow.locks_rows)
        self._message, self._renamed, self._default_order = message, columns or {}, default_order

    def _marked(self, option: Any) -> dict[str, Column[Any]]:
        names = marked(self._message.DESCRIPTOR, option) if self._message is not None else ()
        return {name: self._table.c[self._renamed.get(name, name)] for name in names}

    async def get(self, project: str, ref: str) -> E:
        """Return the project's entity with this id or name; in a writing unit it cannot change until the unit ends.

        Raises: NotFound: there is none, also when another project has it.
        """
        entity = await self.find(project, ref)
        if entity is None:
            raise NotFound.of(self._kind, ref)
        return entity

    async def find(self, project: str, ref: str) -> E | None:
        """Return the same as `get`, but None if there is none. An id wins over a name that looks like one."""
        if not ref or "\0" in ref:  # a name may be empty; PostgreSQL would refuse a NUL itself
            return None
        result = await self._one(self._statements.find, {"project": project, "id": ref})
        if result is None and self._statements.find_named is not None:
            result = await self._one(self._statements.find_named, {"project": project, "name": ref})
        return result

    async def by_id(self, entity_id: str) -> E | None:
        """Return the entity of any project, for the system's own use; never with an id that a caller gave."""
        return await self._one(self._statements.by_id, {"id": entity_id})

    async def select(
        self, *conditions: ColumnElement[bool], order_by: Sequence[Any] = (), limit: int | None = None
    ) -> list[E]:
        """Return the entities of all projects that fulfil all conditions, for the system's own use."""
        return await self._all(select(self._table).where(*conditions).order_by(*order_by).limit(limit))

    async def first(self, *conditions: ColumnElement[bool], order_by: Sequence[Any] = ()) -> E | None:
        """Return the first of what `select` returns, or None."""
        return next(iter(await self.select(*conditions, order_by=order_by, limit=1)), None)

    async def _one(self, query: Select[Any], parameters: Mapping[str, Any]) -> E | None:
        row = (await self._uow.connection.execute(query, parameters)).fetchone()  # there is one at most
        return None if row is None else self._entity(row)

    async def _all(self, query: Select[Any]) -> list[E]:
        if self._uow.locks_rows:
            query = query.with_for_update()
        rows = (await self._uow.connection.execute(query)).fetchall()
        if len(rows) > ROWS_ON_LOOP:
            return await asyncio.to_thread(self._entities, rows)
        return self._entities(rows)

    def _entities(self, rows: Sequence[Sequence[Any]]) -> list[E]:
        return [self._entity(row) for row in rows]

    def _entity(self, row: Sequence[Any]) -> E:
        return self._type(**dict(zip(self._statements.names, row, strict=True)))

    def _row(self, entity: E) -> dict[str, Any]:
        return {name: getattr(entity, name) for name in self._statements.names}

    async def add(self, entity: E) -> None:
        """Insert a new entity. Raises: AlreadyExists: its name (or what else must be unique) is taken."""
        try:
            async with self._uow.guarded():
                await self._uow.connection.execute(self._statements.add, self._row(entity))
        except IntegrityError as error:
            name = getattr(entity, "name", "") or entity.id
            raise AlreadyExists(
                f"There is already a {self._kind} {name!r} in this project.",
                metadata={"resource": self._kind, "name": name},
            ) from error
        self._uow.announcements.wrote(entity.id, entity.version)

    async def save(self, entity: E) -> None:
        """Write a changed entity, whose version is one more than that of its row.

        Raises: Conflict: the row has changed meanwhile, or is gone. AlreadyExists: its new name is taken.
        """
        row = {**self._row(entity), **self._key(entity, entity.version - 1)}
        try:
            async with self._uow.guarded():
                result = await self._uow.connection.execute(self._statements.save, row)
        except IntegrityError as error:
            name = getattr(entity, "name", "")
            raise AlreadyExists(f"There is already a {self._kind} {name!r} in this project.") from error
        self._expect_one(result.rowcount, entity)
        self._uow.announcements.wrote(entity.id, entity.version)

    async def raise_version(self, entity: E, version: int) -> None:
        """Give an entity as it was loaded a higher version: one above what readers have seen of a newer database.

        Raises: Conflict: it has changed meanwhile, or is gone.
        """
        row = {**self._row(entity), "version": version, **self._key(entity, entity.version)}
        result = await self._uow.connection.execute(self._statements.save, row)
        self._expect_one(result.rowcount, entity)

    async def delete(self, entity: E) -> None:
        """Remove an entity as it was loaded; the event of that carries one version more.

        A late repeat of the request that made it does not make it again. Raises: Conflict: it has changed meanwhile, or
        is gone.
        """
        key = self._key(entity, entity.version)
        result = await self._uow.connection.execute(self._statements.delete, key)
        self._expect_one(result.rowcount, entity)
        await self._uow.note_deleted(entity.id)
        self._uow.announcements.wrote(entity.id, entity.version + 1)

    def _key(self, entity: E, version: int) -> dict[str, Any]:
        return {"row_id": entity.id, "row_version": version}

    def _expect_one(self, rows: int, entity: E) -> None:
        if rows != 1:
            raise Conflict(
                f"The {self._kind} {entity.id!r} was changed by somebody else at the same time; try again.",
                metadata={"resource": self._kind, "id": entity.id},
            )

    async def list(self, project: str, page: PageQuery, *, shared: str | None = None, **equals: Any) -> Page[E]:
        """Return a page of the project's entities, newest first if nothing else is asked.

        Args:
            shared: a further owner whose entities every project sees (presets).
            equals: further columns and the values that they must have (`job_id="ftjob-…"`).

        Raises: Invalid: page_size, page_token, filter or order_by cannot be accepted; it names the field.
        """
        columns = self._table.c
        if page.order_by:
            sortable = self._marked(options_pb2.sortable)
        else:
            sortable = {name: columns[name] for name in (self._default_order,) if name}
        order = Order(page.order_by or self._default_order, sortable, columns.id, columns.get("create_time"))
        bound_to = fingerprint(project, page.filter, page.order_by, sorted(equals.items(), key=lambda pair: pair[0]))
        owners = [project] if shared is None else [project, shared]
        query = select(self._table).where(columns.project.in_(owners))
        query = query.where(*(columns[name] == value for name, value in equals.items()))
        query = query.where(*parse_filter(page.filter, self._marked(options_pb2.filterable)))
        if page.page_token:
            query = query.where(order.after(read_token(page.page_token, bound_to, order)))
        entities = await self._all(query.order_by(*order.clauses()).limit(page.limit + 1))
        items = tuple(entities[: page.limit])
        more = len(entities) > len(items)
        return Page(items, make_token(bound_to, order.values(items[-1])) if more else "")
