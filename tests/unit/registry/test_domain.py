"""The registry's rules: every state with every transition, references, names and aliases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.chassis.errors import Invalid, WrongState
from services.chassis.transitions import Transition
from services.registry.domain import (
    TRANSITIONS,
    Alias,
    AliasTarget,
    Kind,
    ModelVersion,
    Reference,
    State,
    fine_tuned_name,
    parse_reference,
    version_key,
)

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VERSION = ModelVersion("mv-1", "p", "mdl-1", "m", 1, State.PREPARING, Kind.FULL, NOW)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda t: t.name)
def test_every_state_with_every_transition(state: State, transition: Transition) -> None:
    version = replace(VERSION, state=state)
    if state not in transition.sources:
        with pytest.raises(WrongState) as caught:
            version.apply(transition, NOW, "because")
        assert caught.value.metadata["state"] == state.name
        return
    after = version.apply(transition, NOW, "because")
    assert after.state is transition.target
    assert after.version == version.version + 1
    assert after.cause == "because"
    assert (after.finish_time is not None) == transition.target.ended


def test_no_transition_leaves_a_terminal_state() -> None:
    assert not [t for t in TRANSITIONS if any(source.ended for source in t.sources)]


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("name", Reference(model="name")),
        ("name@3", Reference(model="name", number=3)),
        ("name@prod", Reference(model="name", alias="prod")),
        ("name@latest", Reference(model="name")),
        ("Qwen/Qwen2.5-0.5B-Instruct", Reference(model="Qwen/Qwen2.5-0.5B-Instruct")),
        ("mv-1", Reference(version_id="mv-1")),
        ("ft:b:p:s:12345678", Reference(fine_tuned_name="ft:b:p:s:12345678")),
    ],
)
def test_references_are_taken_apart(text: str, reference: Reference) -> None:
    assert parse_reference(text, "model") == reference


@pytest.mark.parametrize("text", ["", "@1", "name@", "name@0", "name@UP", "name@1x"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_reference(text, "job.model")
    assert caught.value.field == "job.model"


def test_versions_in_a_path() -> None:
    assert version_key("latest", "version") == Reference()
    assert version_key("7", "version") == Reference(number=7)
    assert version_key("prod", "version") == Reference(alias="prod")
    with pytest.raises(Invalid):
        version_key("No!", "version")


def test_fine_tuned_names() -> None:
    job = "ftjob-01m8670gmp5hg7bm1e4dnx43te"
    assert fine_tuned_name("base", "default", "Help Desk", job, None) == "ft:base:default:help-desk:4dnx43te"
    assert fine_tuned_name("base", "default", "x", job, 30) == "ft:base:default:x:4dnx43te:ckpt-step-30"


def test_an_alias_remembers_where_it_pointed() -> None:
    first, second = (AliasTarget(f"mv-{n}", n, NOW, "key-1") for n in (1, 2))
    alias = Alias("alias-1", "p", "mdl-1", "prod", (first,), NOW)
    moved = alias.point(second)
    assert moved.target == second
    assert moved.history == (second, first)
    assert moved.point(second) is moved
