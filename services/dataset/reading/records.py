"""Rows of named columns: Alpaca, prompt and completion, evaluation pairs."""

from typing import Any

from services.dataset.reading.problems import RowProblem, kind_of
from services.dataset.reading.sample import Message, Row, Sample, empty, optional_string, string_in


def from_alpaca(row: Row) -> Sample:
    """Read a row whose `instruction` (and `input`) is asked, `output` answered; `system` and `history` come before.

    Raises: RowProblem.
    """
    messages = _system(row)
    messages += _history(row.get("history"))
    if "instruction" not in row:
        raise RowProblem("instruction", "MISSING_FIELD", '"instruction" is missing.')
    instruction = optional_string(row, "instruction") or ""
    context = optional_string(row, "input") or ""
    question = f"{instruction}\n{context}" if instruction and context else instruction or context
    if not question or question.isspace():
        raise RowProblem("instruction", "EMPTY_FIELD", '"instruction" and "input" are both empty: nothing is asked.')
    messages.append({"role": "user", "content": question})
    messages.append({"role": "assistant", "content": string_in(row, "output", answer=True)})
    return Sample(messages)


def _system(row: Row) -> list[Message]:
    system = optional_string(row, "system")
    return [{"role": "system", "content": system}] if system and not system.isspace() else []


def _history(history: Any) -> list[Message]:
    if history is None or history in ("", []):
        return []
    if not isinstance(history, list):
        raise _not_pairs("history", history)
    messages: list[Message] = []
    for index, pair in enumerate(history):
        path = f"history[{index}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise _not_pairs(path, pair)
        for part, role in zip(pair, ("user", "assistant"), strict=True):
            if not isinstance(part, str):
                raise RowProblem(path, "BAD_HISTORY", f'Expected strings in "{path}", got {kind_of(part)}.')
            if not part or part.isspace():
                raise empty(path)
            messages.append({"role": role, "content": part})
    return messages


def _not_pairs(path: str, value: Any) -> RowProblem:
    kind = f"a list of {len(value)}" if isinstance(value, list) else kind_of(value)
    return RowProblem(path, "BAD_HISTORY", f'"history" must be a list of [question, answer] pairs; "{path}" is {kind}.')


def from_completion(row: Row) -> Sample:
    """Read a row whose `prompt` is asked and `completion` answered. Raises: RowProblem."""
    messages = _system(row)
    messages.append({"role": "user", "content": string_in(row, "prompt")})
    messages.append({"role": "assistant", "content": string_in(row, "completion", answer=True)})
    return Sample(messages)


def from_pair(row: Row) -> Sample:
    """Read a row of `question`, one or several `references`, and perhaps a `category`. Raises: RowProblem."""
    messages = _system(row)
    messages.append({"role": "user", "content": string_in(row, "question")})
    references = row.get("references")
    if isinstance(references, list):
        if not references:
            raise empty("references", answer=True)
        for index, reference in enumerate(references):
            if not isinstance(reference, str):
                raise RowProblem(
                    f"references[{index}]", "WRONG_TYPE", f"Expected strings, got {kind_of(reference)} at {index}."
                )
            if not reference or reference.isspace():
                raise empty(f"references[{index}]", answer=True)
    else:
        references = [string_in(row, "references", answer=True)]
    category = row.get("category")
    if category is not None and not isinstance(category, str):
        category = str(category)
    return Sample(messages, references=references, category=category or None)
