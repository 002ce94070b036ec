"""A refusal by another service names the field of the request that led to it, in one way."""

import pytest

from services.chassis.errors import (
    Conflict,
    Denied,
    Invalid,
    ModelryError,
    NotFound,
    OverLimit,
    Unavailable,
    Violation,
    WrongState,
    at_field,
    with_field,
)
from services.chassis.jobs import JobNotActive

pytestmark = pytest.mark.unit


async def refused(error: ModelryError) -> int:
    raise error


async def wrapped(path: str, error: ModelryError) -> ModelryError:
    with pytest.raises(ModelryError) as caught:
        await with_field(path, refused(error))
    return caught.value


@pytest.mark.parametrize("kind", [NotFound, WrongState, Denied, JobNotActive])
async def test_a_refusal_keeps_its_kind_and_names_the_field(kind: type[ModelryError]) -> None:
    error = kind("It is not there.", reason="WHY", metadata={"name": "tiny"})
    named = await wrapped("job.model", error)
    assert type(named) is kind and named.__cause__ is error
    assert (named.message, named.reason) == ("job.model: It is not there.", "WHY")
    assert named.metadata == {"name": "tiny", "field": "job.model"}


async def test_an_invalid_reference_is_a_violation_at_the_path() -> None:
    error = Invalid("It is too long.", field="reference", reason="BAD", metadata={"limit": "9"})
    named = await wrapped("job.datasets[0].ref", error)
    assert isinstance(named, Invalid) and (named.reason, named.metadata) == ("BAD", {"limit": "9"})
    assert named.message == "job.datasets[0].ref: It is too long."
    assert named.violations == (Violation("job.datasets[0].ref", "It is too long.", "BAD"),)


@pytest.mark.parametrize(
    "error",
    [
        Invalid("reference: It is wrong.", field="reference"),
        Invalid("job.model: It is wrong.", field="job.model"),
        NotFound("reference: It is wrong.", metadata={"field": "reference"}),
        at_field(at_field(NotFound("It is wrong."), "job.model"), "job.model"),
    ],
)
async def test_the_message_says_the_callers_path_once(error: ModelryError) -> None:
    assert (await wrapped("job.model", error)).message == "job.model: It is wrong."


@pytest.mark.parametrize(
    "error", [Unavailable("Away."), Conflict("Changed."), OverLimit("Too many."), ModelryError("x")]
)
async def test_what_is_no_refusal_of_the_field_passes_as_it_is(error: ModelryError) -> None:
    assert await wrapped("job.model", error) is error


async def test_an_answer_passes() -> None:
    async def answer() -> int:
        return 7

    assert await with_field("job.model", answer()) == 7
