"""Counting one call from what its engine says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.tokens import Tokens

pytestmark = pytest.mark.unit


def event(choices: list[dict[str, Any]], prompt: int, completion: int) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return b"data: " + json.dumps({"choices": choices, "usage": usage}).encode() + b"\n\n"


def read(tokens: Tokens, *events: bytes) -> dict[str, int]:
    for one in events:
        tokens.read_event(one, shown=False, totals_shown=False)
    return dict(tokens.items())


def test_the_running_totals_of_choices_are_added_and_those_of_a_prompt_taken_once() -> None:
    # Two prompts of 5 and 11 tokens with two choices each, as vLLM counts: a total for each choice.
    tokens = Tokens(choices=2)
    totals = [(0, 5, 1), (1, 5, 1), (2, 11, 1), (0, 5, 4), (3, 11, 2)]
    counted = read(tokens, *(event([{"index": index}], prompt, done) for index, prompt, done in totals))
    assert counted == {"input-token": 5 + 11, "output-token": 4 + 1 + 1 + 2}
    assert not tokens.final


def test_the_total_of_all_takes_the_place_of_running_ones() -> None:
    tokens = Tokens(choices=1)
    assert read(tokens, event([{"index": 0}], 5, 1), event([], 5, 9)) == {"input-token": 5, "output-token": 9}
    assert tokens.final


def test_several_choices_in_one_event_have_the_total_of_all() -> None:
    tokens = Tokens(choices=2)
    assert read(tokens, event([{"index": 0}, {"index": 1}], 5, 9)) == {"input-token": 5, "output-token": 9}


def test_every_choice_told_after_its_last_token_is_the_total_of_all() -> None:
    tokens = Tokens(choices=2, prompts=2)
    for index in range(4):
        assert not tokens.final
        read(tokens, event([{"index": index, "finish_reason": None}], 5, 1))
        read(tokens, event([{"index": index, "finish_reason": "stop"}], 5, 2))
    assert tokens.final and tokens.items() == {"input-token": 10, "output-token": 8}


@pytest.mark.parametrize(
    "told",
    [b'data: {"usage":null,"choices":[]}\n\n', b'data: {"usage":[]}\n\n', b'data: {"usage\n\n', b": ok\n\n", b"data: "],
)
def test_what_is_no_usage_passes_and_counts_nothing(told: bytes) -> None:
    tokens = Tokens(choices=1)
    assert tokens.read_event(told, shown=False, totals_shown=False) == told
    tokens.read_answer(told)
    assert tokens.items() == {}


def test_hiding_a_total_leaves_every_other_field_as_it_was() -> None:
    fields = b'"id":"1","big":123456789012345678901234567890,"text":"\\"usage\\":{} \\u4e16","choices":[{"index":0}]'
    told = b"data: {" + fields + b',"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    assert Tokens(1).read_event(told, shown=True, totals_shown=False) == b"data: {" + fields + b"}\n\n"
