"""Tokens of one call, as its engine counts them: in a plain answer, or from event to event of a stream.

Each event of a stream has the running total of its own choice, the last one that of all; so a stream that ends early
has been counted up to the last event that arrived.
"""

from collections.abc import Mapping

import msgspec

DATA = b"data: "
_shown = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = None


class _Answer(msgspec.Struct):
    """The fields of an answer or an event that are read; the decoder skips the rest."""

    usage: _Usage | None = None
    choices: list[_Choice] = []


_read = msgspec.json.Decoder(_Answer).decode


class Tokens:
    """Counts one call."""

    def __init__(self, choices: int, prompts: int = 1) -> None:
        """Args: choices: how many the question asks for of each prompt."""
        self._choices, self._wanted = choices, choices * prompts
        self._finished: set[int] = set()
        self._told = False
        self._prompts: dict[int, int] = {}
        self._completions: dict[int, int] = {}

    @property
    def final(self) -> bool:
        """Whether the engine has told the total of all, or that of each choice after its last token."""
        return self._told or len(self._finished) >= self._wanted

    def items(self) -> Mapping[str, int]:
        """Return the tokens up to now, by the item of the price list."""
        counted = {"input-token": sum(self._prompts.values()), "output-token": sum(self._completions.values())}
        return {item: number for item, number in counted.items() if number > 0}

    def read_answer(self, payload: bytes) -> None:
        """Take over the usage of a plain answer."""
        try:
            answer = _read(payload)
        except msgspec.MsgspecError:
            return
        if answer.usage is not None:
            self._take_total(answer.usage)

    def read_event(self, event: bytes, shown: bool, totals_shown: bool) -> bytes:
        """Take over the usage of an event. Returns: the event as the client asked for it, empty if it gets none."""
        if b'"usage"' not in event or not event.startswith(DATA):
            return event
        try:
            answer = _read(event[len(DATA) :])
        except msgspec.MsgspecError:
            return event
        if answer.usage is None:
            return event
        if len(answer.choices) == 1:
            index = answer.choices[0].index
            if answer.choices[0].finish_reason:
                self._finished.add(index)
            self._prompts[index // self._choices] = answer.usage.prompt_tokens
            self._completions[index] = answer.usage.completion_tokens or 0
        else:
            self._take_total(answer.usage)
        if not answer.choices:
            return event if shown else b""
        return event if totals_shown else _without_usage(event)

    def _take_total(self, usage: _Usage) -> None:
        self._told = True
        self._prompts, self._completions = {0: usage.prompt_tokens}, {0: usage.completion_tokens or 0}


def _without_usage(event: bytes) -> bytes:
    fields = _shown(event[len(DATA) :])
    del fields["usage"]
    return DATA + _encode(fields) + b"\n\n"
