"""Stop-word lists: presets that come with the installation, and a project's own."""

import re
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
from services.evaluation.scoring.stopwords import MAX_LIST_BYTES, PRESETS, StopWords, parse_stopwords, preset_stopwords
from services.evaluation.store import EVALUATIONS, EvaluationUnit

PREFIX = "swl-"
MOST_WORDS = 100_000
CREATE = "CreateStopwordList"


@dataclass(frozen=True)
class CreateStopwords:
    """Ask for a list of stop words."""

    project: str
    name: str
    words: Sequence[str]
    request_id: str = ""
    request_digest: str = ""


async def create_stopwords(command: CreateStopwords, context: ServiceContext, now: datetime) -> OwnStopwords:
    """Make a list. Raises AlreadyExists for a name in use, Invalid for an empty or too long one."""
    check_name(command.name, "stopword_list.name", (PREFIX,))
    if command.name in PRESETS:
        metadata = {"resource": "stopwordList", "name": command.name}
        raise AlreadyExists(f"{command.name!r} is a preset list.", metadata=metadata)
    if not 1 <= len(command.words) <= MOST_WORDS:
        message = f"stopword_list.words has {len(command.words)} entries, and must have 1 to {MOST_WORDS:,}."
        raise Invalid(message, field="stopword_list.words")
    if any(not re.search(r"[^\s#]", word) for word in command.words):
        raise Invalid("stopword_list.words has an empty word.", field="stopword_list.words")
    try:
        parsed = parse_stopwords(command.name, "\n".join(word.lstrip("#") for word in command.words))
    except ValueError as error:
        message = f"stopword_list.words: {error} (at most {MAX_LIST_BYTES:,} bytes in all)."
        raise Invalid(message, field="stopword_list.words") from error
    async with EvaluationUnit(context.database) as uow:
        request = (CREATE, command.request_id, command.request_digest)
        identity = await uow.claim_request(command.project, *request, new_id(PREFIX))
        own = await uow.stopwords.find(command.project, identity)
        if own is None:
            words = tuple(dict.fromkeys(command.words))
            own = OwnStopwords(
                id=identity,
                project=command.project,
                name=command.name,
                words=words,
                digest=parsed.digest,
                create_time=now,
            )
            await uow.stopwords.add(own)
            uow.emit(_event(own, "created", "Made by a user."))
        await uow.commit()
    return own


async def get_stopwords(project: str, ref: str, context: ServiceContext) -> OwnStopwords | StopWords:
    """Return one list, own or preset. Raises NotFound."""
    if ref in PRESETS:
        return preset_stopwords(ref)
    async with EvaluationUnit(context.database, write=False) as uow:
        return await uow.stopwords.get(project, ref)


async def list_stopwords(project: str, page: PageQuery, context: ServiceContext) -> Page[OwnStopwords | StopWords]:
    """Return own lists, newest first; the presets stand before them on the first page (beyond its size)."""
    async with EvaluationUnit(context.database, write=False) as uow:
        lists = await uow.stopwords.list(project, page)
    first = () if page.page_token else map(preset_stopwords, PRESETS)
    return Page((*first, *lists.items), lists.next_page_token)


async def delete_stopwords(project: str, ref: str, context: ServiceContext) -> None:
    """Delete an own list. Raises NotFound, WrongState for a preset or while an active evaluation uses it."""
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
    return Event(own.project, "stopwordList", own.id, happening, state="", version=version, cause=cause)
