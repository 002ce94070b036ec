"""Function definitions and calls, brought to OpenAI's shape."""

import json
from typing import Any

import msgspec

from services.dataset.reading.problems import RowProblem, kind_of, quote
from services.dataset.reading.sample import Message


def read_tools(value: Any, field: str = "tools") -> list[Any] | None:
    """Return definitions as a list, or as a string that holds one; None when there are none.

    Raises: RowProblem: BAD_TOOLS.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = _parse(value, field)
    if not isinstance(value, list):
        raise RowProblem(field, "BAD_TOOLS", f'Expected a list of functions in "{field}", got {kind_of(value)}.')
    return [_definition(tool, f"{field}[{index}]") for index, tool in enumerate(value)] or None


def _parse(text: str, field: str) -> Any:
    if not text.strip():
        raise RowProblem(
            field, "BAD_TOOLS", f'"{field}" is not valid JSON: it is a blank string; use "[]" for no tools.'
        )
    return _decode(text, field, "BAD_TOOLS")


def _decode(text: str, path: str, code: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RowProblem(path, code, f'"{path}" is not valid JSON: {error}.') from error


def _definition(tool: Any, path: str) -> dict[str, Any]:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        raise RowProblem(path, "BAD_TOOLS", f'Expected a function definition in "{path}", got {kind_of(tool)}.')
    if not isinstance(function.get("name"), str) or not function["name"].strip():
        raise RowProblem(path, "BAD_TOOLS", f'"{path}" has no name.')
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise RowProblem(path, "BAD_TOOLS", f'"{path}.parameters" must be an object (a JSON schema).')
    return {"type": "function", "function": function}


def names_of(tools: list[Any] | None) -> frozenset[str] | None:
    """Return the functions that may be called, or None when any may."""
    return frozenset(tool["function"]["name"] for tool in tools) if tools else None


def read_calls(value: Any, path: str, known: frozenset[str] | None, first_number: int) -> list[Message]:
    """Return the `tool_calls` of an assistant message.

    Args:
        first_number: number for the id of the first call that has none.

    Raises: RowProblem: BAD_TOOL_CALL with the path of the call.
    """
    if not isinstance(value, list) or not value:
        raise RowProblem(path, "BAD_TOOL_CALL", f'"{path}" must be a list of calls, got {kind_of(value)}.')
    calls = []
    for index, call in enumerate(value):
        where = f"{path}[{index}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise RowProblem(where, "BAD_TOOL_CALL", f'"{where}.function" must be an object with name and arguments.')
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            raise RowProblem(
                f"{where}.function.arguments",
                "BAD_TOOL_CALL",
                f'"{where}.function.arguments" must be a string that holds JSON, got {kind_of(arguments)}.',
            )
        _check_arguments(arguments, f"{where}.function.arguments")
        calls.append(make_call(function.get("name"), arguments, where, known, call.get("id"), first_number + index))
    return calls


def make_call(name: Any, arguments: str, path: str, known: frozenset[str] | None, call_id: Any, number: int) -> Message:
    """Return one call in OpenAI's shape; the function must be among the known ones."""
    if not isinstance(name, str) or not name.strip():
        raise RowProblem(path, "BAD_TOOL_CALL", f'"{path}" does not name a function.')
    if known is not None and name not in known:
        raise RowProblem(
            path,
            "BAD_TOOL_CALL",
            f'"{path}" calls {quote(name)}, which is not among the tools: {", ".join(sorted(known))}.',
        )
    if call_id is not None and not isinstance(call_id, str):
        raise RowProblem(f"{path}.id", "BAD_TOOL_CALL", f'"{path}.id" must be a string, got {kind_of(call_id)}.')
    return {
        "id": call_id or f"call_{number}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def read_inline_calls(text: str, path: str, known: frozenset[str] | None, first_number: int) -> list[Message]:
    """Return the calls of a ShareGPT `function_call` turn: a JSON object with name and arguments, or a list of them."""
    value = _decode(text, path, "BAD_TOOL_CALL")
    calls = []
    for index, call in enumerate(value if isinstance(value, list) else [value]):
        if not isinstance(call, dict):
            raise RowProblem(path, "BAD_TOOL_CALL", f'"{path}" must hold an object with name and arguments.')
        arguments = call.get("arguments", {})
        if isinstance(arguments, str):
            _check_arguments(arguments, path)
        else:
            arguments = json.dumps(arguments, ensure_ascii=False)
        calls.append(make_call(call.get("name"), arguments, path, known, None, first_number + index))
    return calls


def _check_arguments(arguments: str, path: str) -> None:
    value = _decode(arguments or "{}", path, "BAD_TOOL_CALL")
    if not isinstance(value, dict):
        raise RowProblem(path, "BAD_TOOL_CALL", f'"{path}" must hold a JSON object, got {kind_of(value)}.')
