"""One canonical row, whatever format it came in, and the checks that every conversation passes."""

from dataclasses import dataclass
from typing import Any

from services.dataset.reading.problems import RowProblem, kind_of

Message = dict[str, Any]
Row = dict[str, Any]

ROLES = ("system", "user", "assistant", "tool")


@dataclass(slots=True)
class Sample:
    """A conversation as OpenAI messages; with `references` it is a question for an evaluation.

    Attributes:
        messages: role and content (always a string), `tool_calls`, `tool_call_id`, `name`, `weight` where given.
        tools: function definitions in OpenAI's shape, or None.
        references: right answers; None in training data.
        category: group of an evaluation pair.
        id: the row's own id in the source, only used to report duplicates.
    """

    messages: list[Message]
    tools: list[Any] | None = None
    references: list[str] | None = None
    category: str | None = None
    id: str | None = None


def string_in(row: Row, field: str, *, answer: bool = False) -> str:
    """Return a string that must be there and not blank; `answer` says that it is what is learned or compared."""
    value = optional_string(row, field)
    if value is None:
        if field not in row:
            raise RowProblem(field, "MISSING_FIELD", f'"{field}" is missing.')
        raise RowProblem(field, "WRONG_TYPE", f'Expected a string in "{field}", got null.')
    if not value or value.isspace():
        raise empty(field, answer=answer)
    return value


def optional_string(row: Row, field: str, path: str = "") -> str | None:
    """Return a string, possibly empty, or None when the field is null or not there."""
    value = row.get(field)
    if value is None or value.__class__ is str:
        return value
    name = path + field
    raise RowProblem(name, "WRONG_TYPE", f'Expected a string in "{name}", got {kind_of(value)}.')


def empty(name: str, *, answer: bool = False) -> RowProblem:
    """Return the refusal of a field that is there but holds nothing."""
    return RowProblem(name, "EMPTY_ANSWER" if answer else "EMPTY_FIELD", f'"{name}" is empty.')


def list_in(row: Row, field: str, what: str) -> list[Any]:
    """Return a list that must be there and hold something."""
    if field not in row:
        raise RowProblem(field, "MISSING_FIELD", f'"{field}" is missing.')
    value = row[field]
    if value.__class__ is not list:
        raise RowProblem(field, "WRONG_TYPE", f'Expected a list of {what} in "{field}", got {kind_of(value)}.')
    if not value:
        raise RowProblem(field, "EMPTY_FIELD", f'"{field}" is an empty list.')
    return list(value)


def check_conversation(messages: list[Message], paths: list[str]) -> None:
    """Check the rules of every conversation: somebody asks first, and the last message is an answer.

    Args:
        messages: canonical messages.
        paths: where each stands in the source, such as `conversations[2]`.

    Raises: RowProblem: WRONG_FIRST_TURN, NO_ANSWER, BAD_TOOL_CALL.
    """
    first = 0
    while first < len(messages) and messages[first]["role"] == "system":
        first += 1
    if first == len(messages):
        raise RowProblem(paths[-1], "NO_ANSWER", "The conversation has only system turns: nothing to learn from.")
    if messages[first]["role"] != "user":
        raise RowProblem(
            paths[first],
            "WRONG_FIRST_TURN",
            f"Turn {first} is from the {messages[first]['role']}: the first after the system's must be the user's.",
        )
    last = messages[-1]["role"]
    if last != "assistant":
        turns = {message["role"] for message in messages}
        what = f"The conversation ends with a {last} turn" if "assistant" in turns else "The conversation has no answer"
        raise RowProblem(paths[-1], "NO_ANSWER", f"{what}: the last turn must be the assistant's.")


def split_answer(sample: Sample) -> Sample:
    """Take the last answer of training data as the reference of an evaluation set."""
    if sample.references is not None:
        return sample
    answer = sample.messages[-1]
    if not answer["content"]:
        raise RowProblem("messages", "NO_ANSWER", "The last turn calls a tool and has no text to compare with.")
    return Sample(sample.messages[:-1], sample.tools, [answer["content"]], sample.category, sample.id)
