"""Headers of which only one can count."""

from __future__ import annotations

import pytest

from gateway.context import refuse_repeated
from services.chassis.errors import Invalid

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", ["authorization", "modelry-project", "if-match", "last-event-id", "idempotency-key"])
def test_one_of_two_keys_or_projects_is_never_ours_to_choose(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        refuse_repeated(["accept", name.title(), "x", name])
    assert caught.value.field == name


def test_lists_in_several_headers_are_ordinary() -> None:
    refuse_repeated(["accept", "Accept", "x-forwarded-for", "x-forwarded-for", "authorization"])
