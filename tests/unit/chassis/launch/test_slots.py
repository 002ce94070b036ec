"""Counting of slots: disjoint cores while free ones remain, least loaded first after that, clear refusals."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.chassis.errors import Unavailable
from services.chassis.launch import (
    NEVER_FITS,
    NO_FREE_SLOT,
    Capacity,
    Claim,
    Demand,
    Holder,
    LaunchSettings,
    assign,
    cpu_list,
    holders_text,
)

pytestmark = pytest.mark.unit

TWO_CORES = Capacity(cores=(0, 1), slots=2, memory_mb=1000, gpus=1)
TWO_CORES_TWICE = Capacity(cores=(0, 1), slots=4, memory_mb=1000)


def test_cores_are_disjoint_while_free_ones_remain() -> None:
    capacity = Capacity(cores=(0, 1, 2, 3), slots=4, memory_mb=100)
    first = assign(capacity, [], Demand(2))
    second = assign(capacity, [first], Demand(1))
    third = assign(capacity, [first, second], Demand(1))
    assert (first.cores, second.cores, third.cores) == ((0, 1), (2,), (3,))


def test_a_core_in_the_middle_is_given_out_again() -> None:
    assert assign(TWO_CORES, [Claim(1, (1,))], Demand(1)).cores == (0,)


def test_a_full_machine_refuses_with_numbers() -> None:
    with pytest.raises(Unavailable, match="needs 1 CPU core, and of the 2 on this machine 2 are taken") as refusal:
        assign(TWO_CORES, [Claim(1, (0,)), Claim(1, (1,))], Demand(1))
    assert refusal.value.reason == NO_FREE_SLOT
    assert refusal.value.metadata == {"unit": "CPU core", "wanted": "1", "free": "0", "total": "2"}


def test_what_no_machine_state_could_ever_fit_says_so() -> None:
    with pytest.raises(Unavailable) as refusal:
        assign(TWO_CORES, [], Demand(3))
    assert refusal.value.reason == NEVER_FITS


def test_overcommitted_cores_are_shared_least_loaded_first() -> None:
    replicas = [Claim(1, (0,)), Claim(1, (1,))]
    evaluation = assign(TWO_CORES_TWICE, replicas, Demand(1))
    assert evaluation.cores == (0,)
    assert assign(TWO_CORES_TWICE, [*replicas, evaluation], Demand(1)).cores == (1,)
    with pytest.raises(Unavailable):
        assign(TWO_CORES_TWICE, [*replicas, evaluation], Demand(2))


def test_more_slots_than_cores_for_one_program_count_each_core_again() -> None:
    whole = assign(TWO_CORES_TWICE, [], Demand(3))
    assert (whole.cores, whole.cpus) == ((0, 1), 3)
    # Core 0 carries two of the three slots, so the fourth goes to core 1.
    assert assign(TWO_CORES_TWICE, [whole], Demand(1)).cores == (1,)


def test_memory_is_counted_and_zero_is_not() -> None:
    with pytest.raises(Unavailable, match="MiB of memory"):
        assign(TWO_CORES, [Claim(1, (0,), memory_mb=600)], Demand(1, memory_mb=500))
    assert assign(TWO_CORES, [Claim(1, (0,), memory_mb=1000)], Demand(1)).memory_mb == 0


def test_a_gpu_is_given_to_one_program_only() -> None:
    first = assign(TWO_CORES, [], Demand(1, gpus=1))
    assert first.gpus == (0,)
    with pytest.raises(Unavailable, match="1 GPU, and of the 1"):
        assign(TWO_CORES, [first], Demand(1, gpus=1))


def test_a_program_needs_no_core_and_takes_none() -> None:
    taken = [Claim(2, (0, 1), memory_mb=1000)]
    program = assign(TWO_CORES, taken, Demand(1, program=True))
    assert program == Claim(0, (0, 1), program=True)
    assert assign(TWO_CORES, [program] * 4, Demand(2, memory_mb=1000)).cores == (0, 1)
    with pytest.raises(Unavailable, match="needs 1 place for a program, and of the 4 on this machine 4 are taken"):
        assign(TWO_CORES, [*taken, *[program] * 4], Demand(1, program=True))


def test_work_by_itself_takes_what_is_free_and_at_least_what_it_needs() -> None:
    four = Capacity(cores=(0, 1, 2, 3), slots=4, memory_mb=1000)
    assert assign(four, [], Demand(1, most_cpus=8)).cores == (0, 1, 2, 3)
    assert assign(four, [], Demand(1, most_cpus=3)).cpus == 3
    assert assign(four, [Claim(3, (0, 1, 2))], Demand(1, most_cpus=4)) == Claim(1, (3,), by_itself=True)
    with pytest.raises(Unavailable, match="needs 2 CPU cores, and of the 4 on this machine 3 are taken"):
        assign(four, [Claim(3, (0, 1, 2))], Demand(2, most_cpus=4))


def test_work_runs_beside_replicas_that_hold_every_core_and_waits_for_other_work() -> None:
    replica = Claim(2, (0, 1))
    work = assign(TWO_CORES_TWICE, [replica], Demand(1, most_cpus=2))
    assert work == Claim(2, (0, 1), by_itself=True)
    with pytest.raises(Unavailable, match="needs 1 CPU core, and of the 2 on this machine 2 are taken"):
        assign(TWO_CORES_TWICE, [work], Demand(1, most_cpus=2))
    # A replica may come beside it; only slots bound it.
    assert assign(TWO_CORES_TWICE, [work], Demand(2)).cores == (0, 1)
    with pytest.raises(Unavailable):
        assign(TWO_CORES_TWICE, [replica, replica], Demand(1, most_cpus=2))


def test_without_a_word_work_fits_beside_a_replica_of_all_cores() -> None:
    machine = Capacity.of_settings(LaunchSettings(service="training", launch_gpus=0))
    replica = assign(machine, [], Demand(len(machine.cores)))
    assert assign(machine, [replica], Demand(1, most_cpus=len(machine.cores))).cores == machine.cores


def test_who_waits_hears_who_holds_what_it_waits_for_and_what_frees_it() -> None:
    since = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)
    held = [
        Holder("job ftjob-7", "proj-1", since, ends=True),
        Holder("a replica of deployment help", "proj-1", since, ends=False),
        Holder("evaluation eval-3", "proj-2", since, ends=True),
    ]
    words = holders_text(held, "proj-1")
    assert words == (
        "Held by job ftjob-7 since 2026-05-04 09:30 UTC, until it ends; by a replica of deployment help since "
        "2026-05-04 09:30 UTC, until its deployment is scaled down or deleted; and by 1 program of other projects."
    )
    assert holders_text([], "proj-1") == ""


def test_overcommit_multiplies_the_slots_and_not_the_cores() -> None:
    capacity = Capacity.of_machine(cpus=1, overcommit=2.5, memory_mb=10, gpus=0)
    assert (len(capacity.cores), capacity.slots, capacity.memory_mb) == (1, 2, 10)


@pytest.mark.parametrize(
    ("cores", "text"),
    [((), ""), ((0,), "0"), ((0, 1), "0-1"), ((0, 2), "0,2"), ((5, 1, 2, 3), "1-3,5"), ((1, 1), "1")],
)
def test_cores_are_written_as_linux_writes_them(cores: tuple[int, ...], text: str) -> None:
    assert cpu_list(cores) == text
