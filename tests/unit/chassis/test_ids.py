"""Identifiers: their form, their order, and that none comes twice."""

import re
import threading

import pytest

from services.chassis.ids import new_id

pytestmark = pytest.mark.unit


def test_an_id_is_its_prefix_and_26_base32_characters() -> None:
    assert re.fullmatch(r"ftjob-[0-9a-hjkmnp-tv-z]{26}", new_id("ftjob-"))


def test_ids_of_a_process_sort_in_the_order_of_making() -> None:
    made = [new_id("x-") for _ in range(5000)]
    assert made == sorted(made)


def test_threads_never_get_the_same_id() -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend([new_id("") for _ in range(2000)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8000
