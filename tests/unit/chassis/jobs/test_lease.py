"""Silence is judged on a monotonic clock, from zero after a start or a reconnect."""

import pytest

from services.chassis.jobs import Leases

pytestmark = pytest.mark.unit


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(clock: Clock) -> Leases:
    return Leases(30.0, clock)


def test_nothing_expires_before_the_service_may_judge(leases: Leases, clock: Clock) -> None:
    leases.heard("a")
    clock.now += 1000
    assert not leases.expired("a")


def test_a_worker_that_is_silent_longer_than_its_lease_expires(leases: Leases, clock: Clock) -> None:
    leases.begin()
    leases.heard("a")
    clock.now += 30
    assert not leases.expired("a")
    clock.now += 0.1
    assert leases.expired("a")
    leases.heard("a")
    assert not leases.expired("a")


def test_silence_counts_from_zero_after_a_reconnect(leases: Leases, clock: Clock) -> None:
    leases.begin()
    leases.heard("a")
    clock.now += 29
    leases.deafen()
    clock.now += 500
    assert not leases.expired("a")
    leases.begin()
    clock.now += 29
    assert not leases.expired("a")
    clock.now += 2
    assert leases.expired("a")


def test_a_worker_never_heard_counts_from_the_first_look(leases: Leases, clock: Clock) -> None:
    leases.begin()
    clock.now += 500
    assert not leases.expired("new")
    clock.now += 31
    assert leases.expired("new")


def test_a_worker_may_take_longer_until_it_is_heard_first(clock: Clock) -> None:
    leases = Leases(30.0, clock, start_seconds=120.0)
    leases.begin()
    assert not leases.expired("a")
    clock.now += 119
    assert not leases.expired("a")
    clock.now += 2
    assert leases.expired("a")
    leases.heard("a")
    clock.now += 31
    assert leases.expired("a")


@pytest.mark.parametrize("secret", ["", "other", "\ud800"])
def test_a_heartbeat_with_a_wrong_secret_or_of_an_unknown_worker_is_not_believed(
    leases: Leases, clock: Clock, secret: str
) -> None:
    leases.begin()
    leases.expect("a", "right")
    assert leases.beat("a", "right")
    clock.now += 31
    assert not leases.beat("a", secret) and not leases.beat("b", secret)
    assert leases.expired("a")
    leases.forget("a")
    assert not leases.beat("a", "right")
