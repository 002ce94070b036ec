"""The parts of the bus that need no server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.bus import decode_key, encode_key, retry_delay

pytestmark = pytest.mark.unit


def test_delays_double_from_1_to_60_seconds() -> None:
    for tries, whole in ((1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (10_000, 60)):
        assert whole * 0.8 <= retry_delay(tries, 1, 60) <= whole


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_key_survives_the_bucket(key: str) -> None:
    encoded = encode_key(key)
    assert decode_key(encoded) == key
    assert set(encoded) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=")
