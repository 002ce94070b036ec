"""The repository's promises, one suite on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from modelry.common.v1 import options_pb2
from services.chassis.clock import now
from services.chassis.data import (
    Database,
    PageQuery,
    Repository,
    UnitOfWork,
    chassis_metadata,
    check_etag,
    differences,
    retry_conflicts,
    table_of,
)
from services.chassis.errors import AlreadyExists, Conflict, Invalid, NotFound
from services.chassis.events import Event
from services.chassis.ids import new_id

pytestmark = pytest.mark.contract


class State(Enum):
    OPEN = 1
    CLOSED = 2


@dataclass(frozen=True)
class Place:
    bucket: str
    size_bytes: int


@dataclass(frozen=True)
class Note:
    id: str
    project: str
    name: str
    state: State = State.OPEN
    count: int = 0
    score: float | None = None
    price: Decimal = Decimal("0.10")
    pinned: bool = False
    labels: tuple[str, ...] = ()
    place: Place | None = None
    places: tuple[Place, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    version: int = 1
    create_time: datetime = field(default_factory=now)
    end_time: datetime | None = None

    def bump(self, **changes: Any) -> "Note":
        return replace(self, version=self.version + 1, **changes)


metadata = chassis_metadata()
NOTES = table_of(Note, metadata, "notes")
FIELDS = ("state", "name", "count", "score", "pinned", "labels", "create_time", "end_time", "price")
SORTED = ("count", "score", "create_time")


@cache
def note_message() -> type[Message]:
    """The notes' message: what a list may ask for stands in the options of its fields."""
    file = descriptor_pb2.FileDescriptorProto(name="modelry/notes/v1/notes.proto", package="modelry.notes.v1")
    note = file.message_type.add(name="Note")
    for number, name in enumerate(FIELDS, 1):
        kind = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
        field = note.field.add(name=name, number=number, type=kind)
        field.options.Extensions[options_pb2.filterable] = True
        field.options.Extensions[options_pb2.sortable] = name in SORTED
    pool = descriptor_pool.Default()
    pool.Add(file)  # type: ignore[no-untyped-call]
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("modelry.notes.v1.Note"))  # type: ignore[no-untyped-call]


class Notes(UnitOfWork):
    def __init__(self, database: Database, *, write: bool = True) -> None:
        super().__init__(database, write=write)
        self.notes = Repository(self, NOTES, Note, "note", message=note_message())


@pytest.fixture
async def database(database_url: str, migrations: Path) -> AsyncIterator[Database]:
    opened = await Database.open(database_url, "notes", migrations)
    yield opened
    await opened.close()


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    from services.chassis.data import draft

    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "versions" / "0001_initial.py").write_text(draft(metadata))
    return folder


async def add(database: Database, *notes: Note) -> None:
    async with Notes(database) as uow:
        for note in notes:
            await uow.notes.add(note)
        await uow.commit()


def note(name: str = "a", project: str = "proj-1", **more: Any) -> Note:
    return Note(new_id("note-"), project, name, **more)


async def names(database: Database, filter_text: str = "", order_by: str = "") -> list[str]:
    async with Notes(database, write=False) as uow:
        page = await uow.notes.list("proj-1", PageQuery(filter=filter_text, order_by=order_by))
    return [item.name for item in page.items]


async def test_an_entity_comes_back_as_it_was(database: Database) -> None:
    whole = note(
        state=State.CLOSED,
        count=-3,
        score=0.5,
        price=Decimal("12.3400"),
        pinned=True,
        labels=("x", "数据"),
        place=Place("b", 7),
        places=(Place("c", 8),),
        metadata={"k": "v"},
        end_time=datetime(2026, 11, 24, 8, tzinfo=UTC) + timedelta(microseconds=7),
    )
    await add(database, whole)
    async with Notes(database, write=False) as uow:
        assert await uow.notes.get("proj-1", whole.id) == whole
        assert await uow.notes.get("proj-1", "a") == whole
        assert await uow.notes.by_id(whole.id) == whole


async def test_the_drafted_migration_makes_the_tables_of_the_code(database: Database) -> None:
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences, metadata) == []


async def test_another_projects_entity_does_not_exist(database: Database) -> None:
    theirs = note(project="proj-2")
    await add(database, theirs)
    async with Notes(database, write=False) as uow:
        for ref in (theirs.id, theirs.name, "", "a\0", "'; DROP TABLE notes"):
            with pytest.raises(NotFound):
                await uow.notes.get("proj-1", ref)


async def test_an_id_wins_over_a_name_that_looks_like_it(database: Database) -> None:
    first = note("first")
    await add(database, first, note(first.id))
    async with Notes(database, write=False) as uow:
        assert (await uow.notes.get("proj-1", first.id)).name == "first"


async def test_a_name_exists_once_in_a_project_and_the_unit_goes_on(database: Database) -> None:
    await add(database, note("a"), note("a", project="proj-2"), note(""), note(""))
    async with Notes(database) as uow:
        with pytest.raises(AlreadyExists):
            await uow.notes.add(note("a"))
        await uow.notes.add(note("b"))
        await uow.commit()
    assert sorted(await names(database)) == ["", "", "a", "b"]


async def test_save_refuses_a_stale_version(database: Database) -> None:
    first = note()
    await add(database, first)
    async with Notes(database) as uow:
        await uow.notes.save(first.bump(count=1))
        with pytest.raises(Conflict):
            await uow.notes.save(first.bump(count=2))
        await uow.commit()
    async with Notes(database) as uow:
        with pytest.raises(Conflict):
            await uow.notes.delete(first)
        current = await uow.notes.get("proj-1", first.id)
        assert (current.count, current.version) == (1, 2)
        await uow.notes.delete(current)
        await uow.commit()
    assert await names(database) == []


async def test_leaving_without_commit_rolls_back(database: Database) -> None:
    async with Notes(database) as uow:
        await uow.notes.add(note())
    with pytest.raises(ZeroDivisionError):
        async with Notes(database) as uow:
            await uow.notes.add(note())
            raise ZeroDivisionError
    assert await names(database) == []


async def test_pages_are_newest_first_and_stay_valid_while_rows_change(database: Database) -> None:
    moment = now()
    rows = [note(f"n{i}", create_time=moment + timedelta(seconds=i // 2)) for i in range(10)]
    await add(database, *rows)
    seen: list[str] = []
    token = ""
    for round_ in range(10):
        async with Notes(database, write=False) as uow:
            page = await uow.notes.list("proj-1", PageQuery(page_size=3, page_token=token))
        seen += [item.name for item in page.items]
        token = page.next_page_token
        if not token:
            break
        await add(database, note(f"new{round_}", create_time=moment + timedelta(hours=1)))
        async with Notes(database) as uow:
            await uow.notes.delete(page.items[-1])
            await uow.commit()
    assert seen == [f"n{i}" for i in reversed(range(10))]


@pytest.mark.parametrize("order", ["count", "count desc", "score", "score desc", "create_time"])
async def test_every_order_is_total_over_pages(database: Database, order: str) -> None:
    await add(database, *(note(f"n{i}", count=i % 3, score=None if i % 4 == 0 else i % 2) for i in range(12)))
    whole = await names(database, order_by=order)
    token, paged = "", []
    while True:
        async with Notes(database, write=False) as uow:
            page = await uow.notes.list("proj-1", PageQuery(page_size=5, page_token=token, order_by=order))
        paged += [item.name for item in page.items]
        token = page.next_page_token
        if not token:
            break
    assert paged == whole
    assert sorted(whole) == sorted(f"n{i}" for i in range(12))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("state=OPEN", "ac"),
        ("state != open", "b"),
        ("count>1 AND count <= 3", "bc"),
        ("name:B", "b"),
        ('name = "b"', "b"),
        ("name = 'b'", "b"),
        ("name='b' AND count=2", "b"),
        (r'name = "\b"', ""),
        (r"""name = '\b' AND labels:"dark red" """, "b"),
        ('name: "_"', ""),
        ("labels:red", "a"),
        ("pinned=true", "c"),
        ("score>0.25", "b"),
        ("score!=0.5", "ac"),
        ("price=0.10", "abc"),
        ("create_time>2026-01-01T00:00:00Z and create_time<2026-01-03", "b"),
        ("", "abc"),
    ],
)
async def test_a_filter_gives_what_it_says(database: Database, text: str, expected: str) -> None:
    day = datetime(2026, 1, 1, tzinfo=UTC)
    await add(
        database,
        note("a", count=1, labels=("red", "blue"), create_time=day),
        note("b", count=2, labels=("dark red",), state=State.CLOSED, score=0.5, create_time=day + timedelta(days=1)),
        note("c", count=3, pinned=True, create_time=day + timedelta(days=2)),
    )
    assert "".join(sorted(await names(database, text))) == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (PageQuery(page_size=1001), "page_size"),
        (PageQuery(page_size=-1), "page_size"),
        (PageQuery(page_token="nonsense"), "page_token"),
        (PageQuery(page_token="W10"), "page_token"),
        (PageQuery(filter="secret=1"), "filter"),
        (PageQuery(filter='name="\\u0000"'), "filter"),
        (PageQuery(filter="name=\0"), "filter"),
        (PageQuery(filter="create_time>0001-01-01T00:00:00+14:00"), "filter"),
        (PageQuery(filter="count=1 OR count=2"), "filter"),
        (PageQuery(filter="count=1 AND"), "filter"),
        (PageQuery(filter="count=one"), "filter"),
        (PageQuery(filter="count"), "filter"),
        (PageQuery(filter="name='b"), "filter"),
        (PageQuery(filter='name="b'), "filter"),
        (PageQuery(filter="state=GONE"), "filter"),
        (PageQuery(filter="state>OPEN"), "filter"),
        (PageQuery(filter="labels=red"), "filter"),
        (PageQuery(filter="create_time>yesterday"), "filter"),
        (PageQuery(filter="name='" * 2000), "filter"),
        (PageQuery(order_by="name"), "order_by"),
        (PageQuery(order_by="count down"), "order_by"),
    ],
)
async def test_a_list_refuses_what_it_cannot_do_by_field(database: Database, query: PageQuery, field: str) -> None:
    async with Notes(database, write=False) as uow:
        with pytest.raises(Invalid) as refusal:
            await uow.notes.list("proj-1", query)
    assert refusal.value.field == field


async def test_a_token_of_another_list_is_refused(database: Database) -> None:
    await add(database, *(note(f"n{i}") for i in range(3)))
    async with Notes(database, write=False) as uow:
        token = (await uow.notes.list("proj-1", PageQuery(page_size=1))).next_page_token
        for other in (PageQuery(page_token=token, filter="count=0"), PageQuery(page_token=token, order_by="count")):
            with pytest.raises(Invalid) as refusal:
                await uow.notes.list("proj-1", other)
            assert refusal.value.field == "page_token"
        with pytest.raises(Invalid):
            await uow.notes.list("proj-2", PageQuery(page_token=token))


async def test_20_writers_on_one_row_are_all_applied(database: Database) -> None:
    first = note()
    await add(database, first)

    @retry_conflicts
    async def write() -> None:
        async with Notes(database) as uow:
            current = await uow.notes.get("proj-1", first.id)
            await asyncio.sleep(0)
            await uow.notes.save(current.bump(count=current.count + 1))
            await uow.commit()

    await asyncio.gather(*(write() for _ in range(20)))
    async with Notes(database, write=False) as uow:
        current = await uow.notes.get("proj-1", first.id)
    assert (current.count, current.version) == (20, 21)


async def test_one_request_id_makes_one_resource(database: Database) -> None:
    async def create(number: int) -> str:
        async with Notes(database) as uow:
            found = await uow.claim_request("proj-1", "CreateNote", "r1", "digest", f"note-{number}")
            await uow.commit()
        return found

    assert len(set(await asyncio.gather(*(create(i) for i in range(20))))) == 1
    async with Notes(database) as uow:
        assert await uow.claim_request("proj-2", "CreateNote", "r1", "digest", "note-x") == "note-x"
        assert await uow.claim_request("proj-1", "CloneNote", "r1", "digest", "note-y") == "note-y"
        assert await uow.claim_request("proj-1", "CreateNote", "", "digest", "note-z") == "note-z"
        with pytest.raises(AlreadyExists):
            await uow.claim_request("proj-1", "CreateNote", "r1", "other", "note-1")


async def test_a_late_repeat_hears_that_what_it_made_was_deleted(database: Database) -> None:
    async with Notes(database) as uow:
        assert await uow.claim_request("proj-1", "CreateNote", "r1", "digest", "note-1") == "note-1"
        await uow.notes.add(Note("note-1", "proj-1", "gone"))
        await uow.commit()
    async with Notes(database) as uow:
        await uow.notes.delete(await uow.notes.get("proj-1", "note-1"))
        await uow.commit()
    async with Notes(database) as uow:
        with pytest.raises(NotFound, match="was deleted") as caught:
            await uow.claim_request("proj-1", "CreateNote", "r1", "digest", "note-2")
        assert caught.value.reason == "RESOURCE_DELETED"
        with pytest.raises(NotFound):  # what began before the deletion does not make it again either
            await uow.refuse_deleted("note-1")
        assert await uow.claim_request("proj-1", "CreateNote", "r2", "digest", "note-2") == "note-2"


def told(note: Note, version: int) -> Event:
    return Event("proj-1", "note", note.id, "told", "", version=version)


async def test_an_event_carries_a_version_that_its_unit_wrote_and_no_other_event_has(database: Database) -> None:
    note = Note("note-1", "proj-1", "loud")
    async with Notes(database) as uow:
        await uow.notes.add(note)
        uow.emit(told(note, 1))
        await uow.commit()
    async with Notes(database) as uow:
        uow.emit(told(note, 1))  # it was told with this version before
        with pytest.raises(RuntimeError, match="carries version 1"):
            await uow.commit()
    async with Notes(database) as uow:
        note = note.bump(count=1)
        await uow.notes.save(note)
        uow.emit(told(note, 2))
        uow.emit(told(note, 2))
        with pytest.raises(RuntimeError, match="carries version 2"):
            await uow.commit()
    async with Notes(database) as uow:
        kept = await uow.notes.get("proj-1", note.id)
        await uow.notes.delete(kept)
        uow.emit(told(kept, kept.version))  # the deletion is one more
        with pytest.raises(RuntimeError):
            await uow.commit()
    async with Notes(database) as uow:
        await uow.notes.delete(kept)
        uow.emit(told(kept, kept.version + 1))
        await uow.commit()


async def test_a_request_id_is_forgotten_after_its_days(database: Database) -> None:
    database.request_days = 0.1 / 86400
    async with Notes(database) as uow:
        assert await uow.claim_request("proj-1", "CreateNote", "r1", "digest", "note-1") == "note-1"
        await uow.commit()
    async with asyncio.timeout(5):
        found = ""
        while found != "note-2":
            async with Notes(database) as uow:
                found = await uow.claim_request("proj-1", "CreateNote", "r1", "digest", "note-2")


async def test_an_event_is_handled_the_first_time_only(database: Database) -> None:
    async with Notes(database) as uow:
        assert await uow.first_time("evt_1")
        await uow.commit()
    async with Notes(database) as uow:
        assert not await uow.first_time("evt_1")
        assert await uow.first_time("evt_1", consumer="another")


async def test_a_cancelled_unit_gives_the_lock_and_the_connection_back(database: Database) -> None:
    entered = asyncio.Event()

    async def hold() -> None:
        async with Notes(database) as uow:
            await uow.notes.add(note("lost"))
            entered.set()
            await asyncio.Event().wait()

    for _ in range(20):
        entered.clear()
        task = asyncio.create_task(hold())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await add(database, note("kept"))
    assert await names(database) == ["kept"]


def test_an_etag_of_another_version_is_a_conflict() -> None:
    check_etag("note", "a", "", 3)
    check_etag("note", "a", "3", 3)
    with pytest.raises(Conflict):
        check_etag("note", "a", "2", 3)
