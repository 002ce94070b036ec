"""2,000 requests that nobody sane sends, to the whole installation: none is an error that nobody foresaw."""

from __future__ import annotations

import pytest

from tests.chaos.mutations import send_bent
from tests.stack import Stack

pytestmark = pytest.mark.contract

COUNT, SEED = 2000, 11


def test_no_request_is_an_internal_error(stack: Stack) -> None:
    statuses, wrong = send_bent(stack, COUNT, SEED)
    assert not wrong, f"{len(wrong)} of {COUNT}: {wrong[:5]}"
    assert {200, 400, 404} <= set(statuses)
