"""Stop-word lists: presets that come with the installation, and a project's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.chassis.data import Page, PageQuery
from services.chassis.errors import AlreadyExists, Invalid, WrongState
from services.chassis.events import Event
from services.chassis.ids import new_id
from services.chassis.jobs import ACTIVE
from services.chassis.names import check_name
from services.evaluation.domain import OwnStopwords
from services.evaluation.operations.context import ServiceContext
from services.evaluation.scoring.stopwords import MAX_LIST_BYTES, PRESETS, parse_stopwords, preset_stopwords
from services.evaluation.store import EVALUATIONS, EvaluationUnit

PREFIX = "swl-"
MOST_WORDS = 100_000
CREATE = "CreateStopwordList"


@dataclass(frozen=True)
class CreateStopwords:
    """The wish for a list."""

    project: str
    name: str
    words: Sequence[str]
    request_id: str = ""
    request_digest: str = ""


@dataclass(frozen=True)
class Shown:
    """A list as it is shown; a preset has no create time."""

    id: str
    name: str
    words: tuple[str, ...]
    digest: str
    preset: bool
    create_time: datetime | None = None


def preset_lists() -> list[Shown]:
    """The lists that come with the installation."""
    found = [(name, preset_stopwords(name)) for name in PRESETS]
    return [Shown(name, name, tuple(sorted(one.words)), one.digest, True) for name, one in found]


def _shown(own: OwnStopwords) -> Shown:
    return Shown(own.id, own.name, own.words, own.digest, False, own.create_time)


async def create_stopwords(context: ServiceContext, cmd: CreateStopwords, moment: datetime) -> Shown:
    """Makes a list. Raises AlreadyExists for a name in use, Invalid for an empty or too long one."""
    check_name(cmd.name, "stopword_list.name", (PREFIX,))
    if cmd.name in PRESETS:
        raise AlreadyExists(f"{cmd.name!r} is a preset list.", metadata={"resource": "stopwordList", "name": cmd.name})
    if not 1 <= len(cmd.words) <= MOST_WORDS:
        message = f"stopword_list.words has {len(cmd.words)} entries, and must have 1 to {MOST_WORDS:,}."
        raise Invalid(message, field="stopword_list.words")
    try:
        parsed = parse_stopwords(cmd.name, "\n".join(word.lstrip("#") for word in cmd.words))
    except ValueError as error:
        message = f"stopword_list.words: {error} (at most {MAX_LIST_BYTES:,} bytes in all)."
        raise Invalid(message, field="stopword_list.words") from error
    async with EvaluationUnit(context.database) as uow:
        identity = await uow.claim_request(cmd.project, CREATE, cmd.request_id, cmd.request_digest, new_id(PREFIX))
        made = await uow.stopwords.find(cmd.project, identity)
        if made is None:
            made = OwnStopwords(
                id=identity,
                project=cmd.project,
                name=cmd.name,
                words=tuple(dict.fromkeys(cmd.words)),
                digest=parsed.digest,
                create_time=moment,
            )
            await uow.stopwords.add(made)
            uow.emit(_event(made, "created", "Made by a user."))
        await uow.commit()
    return _shown(made)


async def get_stopwords(context: ServiceContext, project: str, ref: str) -> Shown:
    """One list, own or preset. Raises NotFound."""
    if ref in PRESETS:
        return next(one for one in preset_lists() if one.id == ref)
    async with EvaluationUnit(context.database, write=False) as uow:
        return _shown(await uow.stopwords.get(project, ref))


async def list_stopwords(context: ServiceContext, project: str, page: PageQuery) -> Page[Shown]:
    """Own lists, newest first; the presets stand before them on the first page (beyond its size)."""
    async with EvaluationUnit(context.database, write=False) as uow:
        found = await uow.stopwords.list(project, page)
    own = [_shown(one) for one in found.items]
    first = [] if page.page_token else preset_lists()
    return Page((*first, *own), found.next_page_token)


async def delete_stopwords(context: ServiceContext, project: str, ref: str) -> None:
    """Deletes an own list. Raises NotFound, WrongState for a preset or while an active evaluation uses it."""
    if ref in PRESETS:
        raise WrongState(f"{ref!r} comes with the installation and cannot be deleted.", reason="PRESET")
    async with EvaluationUnit(context.database) as uow:
        own = await uow.stopwords.get(project, ref)
        mine = EVALUATIONS.c.project == project
        active = await uow.evaluations.select(mine, EVALUATIONS.c.state.in_([state.name for state in ACTIVE]))
        for evaluation in active:
            if any(own.id in task.stopword_list_ids for task in evaluation.tasks):
                message = f"The list {own.name!r} is used by {evaluation.name or evaluation.id}, which is active."
                raise WrongState(message, reason="HELD", metadata={"holder": evaluation.id})
        await uow.stopwords.delete(own)
        uow.emit(_event(own, "deleted", "Deleted by a user.", own.version + 1))
        await uow.commit()


def _event(own: OwnStopwords, happening: str, cause: str, version: int = 1) -> Event:
    return Event(
        project=own.project,
        resource="stopwordList",
        resource_id=own.id,
        happening=happening,
        state="",
        version=version,
        cause=cause,
    )
