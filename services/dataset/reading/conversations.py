"""Conversations: OpenAI messages and ShareGPT."""

from typing import Any

from services.dataset.reading.problems import RowProblem, kind_of, quote
from services.dataset.reading.sample import (
    ROLES,
    Message,
    Row,
    Sample,
    check_conversation,
    list_in,
    optional_string,
)
from services.dataset.reading.tools import names_of, read_calls, read_inline_calls, read_tools

_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "function_call": "function_call",
    "observation": "tool",
    "tool": "tool",
}


def from_messages(row: Row) -> Sample:
    """Read OpenAI's `messages` with `tools`. `developer` counts as system. Raises: RowProblem."""
    tools = read_tools(row.get("tools"))
    known = names_of(tools)
    messages: list[Message] = []
    open_calls: list[str] = []
    entries = list_in(row, "messages", "messages")
    for index, entry in enumerate(entries):
        path = f"messages[{index}]"
        if entry.__class__ is not dict:
            raise RowProblem(path, "WRONG_TYPE", f'Expected an object in "{path}", got {kind_of(entry)}.')
        messages.append(_message(entry, path, known, open_calls, index))
    check_conversation(messages, [f"messages[{index}]" for index in range(len(messages))])
    return Sample(messages, tools)


def _message(entry: Row, path: str, known: frozenset[str] | None, open_calls: list[str], index: int) -> Message:
    role = entry.get("role")
    role = "system" if role == "developer" else role
    if role not in ROLES:
        raise _unknown_role(f"{path}.role", role, (*ROLES, "developer"))
    calls = entry.get("tool_calls")
    text = _content(entry.get("content"), f"{path}.content")
    if role == "assistant" and calls is not None:
        parsed = read_calls(calls, f"{path}.tool_calls", known, index)
        open_calls[:] = [call["id"] for call in parsed]
        message: Message = {"role": role, "content": text or "", "tool_calls": parsed}
    else:
        if role != "tool" and (text is None or not text or text.isspace()):
            if "content" not in entry:
                raise RowProblem(f"{path}.content", "MISSING_FIELD", f'"{path}.content" is missing.')
            raise _blank_turn(role, index, f"{path}.content")
        message = {"role": role, "content": text or ""}
    if role == "tool":
        message["tool_call_id"] = _answered_call(entry, path, open_calls)
    if isinstance(entry.get("name"), str):
        message["name"] = entry["name"]
    # Only a turn that must not be learned is worth keeping: 1 is the default.
    weight = entry.get("weight", entry.get("loss_weight"))
    if role == "assistant" and isinstance(weight, int | float) and weight == 0:
        message["weight"] = 0
    return message


def _answered_call(entry: Row, path: str, open_calls: list[str]) -> str:
    call_id = entry.get("tool_call_id")
    if call_id is None and len(open_calls) == 1:
        return open_calls[0]
    if not isinstance(call_id, str) or call_id not in open_calls:
        raise RowProblem(
            f"{path}.tool_call_id",
            "BAD_TOOL_CALL",
            f'"{path}.tool_call_id" is {quote(call_id)}, which answers no call of the assistant turn before it.',
        )
    return call_id


def _content(value: Any, path: str) -> str | None:
    """Return text, or the texts of content parts joined."""
    if value is None or value.__class__ is str:
        return value
    if not isinstance(value, list):
        raise RowProblem(path, "WRONG_TYPE", f'Expected a string or a list of parts in "{path}", got {kind_of(value)}.')
    texts = []
    for index, part in enumerate(value):
        where = f"{path}[{index}]"
        kind = part.get("type") if isinstance(part, dict) else kind_of(part)
        if kind not in ("text", "input_text", "output_text"):
            raise RowProblem(
                where, "UNSUPPORTED_CONTENT", f'"{where}" is a part of type {quote(kind)}: only text is read.'
            )
        text = part.get("text", part.get("value"))
        if not isinstance(text, str):
            raise RowProblem(where, "WRONG_TYPE", f'Expected a string in "{where}.text", got {kind_of(text)}.')
        texts.append(text)
    return "".join(texts)


def from_sharegpt(row: Row) -> Sample:
    """Read `conversations` of `from` and `value`, with `system` and `tools` beside it. Raises: RowProblem."""
    tools = read_tools(row.get("tools"))
    known = names_of(tools)
    messages: list[Message] = []
    paths: list[str] = []
    system = optional_string(row, "system")
    if system and not system.isspace():
        messages.append({"role": "system", "content": system})
        paths.append("system")
    open_calls: list[str] = []
    for index, entry in enumerate(list_in(row, "conversations", "turns")):
        path = f"conversations[{index}]"
        if entry.__class__ is not dict:
            raise RowProblem(path, "WRONG_TYPE", f'Expected an object in "{path}", got {kind_of(entry)}.')
        messages.extend(_turn(entry, path, known, open_calls, index))
        paths.extend([path] * (len(messages) - len(paths)))
    check_conversation(messages, paths)
    return Sample(messages, tools)


def _turn(entry: Row, path: str, known: frozenset[str] | None, open_calls: list[str], index: int) -> list[Message]:
    speaker, words = ("from", "value") if "from" in entry else ("role", "content")
    who = entry.get(speaker)
    role = _SPEAKERS.get(who) if isinstance(who, str) else None
    if role is None:
        raise _unknown_role(f"{path}.{'from' if who is None else speaker}", who, tuple(_SPEAKERS))
    text = optional_string(entry, words, f"{path}.")
    if text is None and words not in entry:
        raise RowProblem(f"{path}.{words}", "MISSING_FIELD", f'"{path}.{words}" is missing.')
    if role == "tool":
        if not open_calls:
            raise RowProblem(
                path, "BAD_TOOL_CALL", f'"{path}" is the result of a function that no turn before it called.'
            )
        return [{"role": "tool", "content": text or "", "tool_call_id": open_calls.pop(0)}]
    if not text or text.isspace():
        raise _blank_turn(role, index, f"{path}.{words}")
    if role == "function_call":
        calls = read_inline_calls(text, f"{path}.{words}", known, index)
        open_calls[:] = [call["id"] for call in calls]
        return [{"role": "assistant", "content": "", "tool_calls": calls}]
    return [{"role": role, "content": text}]


def _blank_turn(role: str, index: int, path: str) -> RowProblem:
    code = "EMPTY_ANSWER" if role == "assistant" else "EMPTY_FIELD"
    return RowProblem(path, code, f'The {role} turn {index} is empty: "{path}" has no text.')


def _unknown_role(path: str, role: Any, known: tuple[str, ...]) -> RowProblem:
    if role is None:
        return RowProblem(path, "MISSING_FIELD", f'"{path}" is missing; known roles: {", ".join(known)}.')
    return RowProblem(path, "UNKNOWN_ROLE", f"Unknown role {quote(role)}; known roles: {', '.join(known)}.")
