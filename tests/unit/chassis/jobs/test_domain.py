"""The rules of jobs: every state with every transition and every report, and the orders in which facts may cross."""

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.chassis.errors import Invalid
from services.chassis.jobs import (
    ATTEMPT_LIMIT,
    ENDED,
    LEASED,
    OUTCOMES,
    TRANSITIONS,
    WAITING,
    WORKING,
    Fact,
    JobCore,
    JobNotActive,
    Outcome,
    Report,
    State,
    failure_of,
    moves,
    outcome_of,
    retry,
)
from services.chassis.transitions import Failure, FailureKind, Transition

pytestmark = pytest.mark.unit
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)


def a_job(state: State, **changes: object) -> JobCore:
    job = JobCore(id="ftjob-1", project="proj-1", create_time=NOW, update_time=NOW, state=state, token=7, attempt=1)
    return replace(job, **changes)  # type: ignore[arg-type]


def a_report(fact: Fact, token: int = 7, number: int = 1) -> Report:
    body: dict[str, object] = {}
    kind = str(fact)
    if fact in (Fact.FAILED_USER, Fact.FAILED_SYSTEM):
        kind, body = "failed", {"kind": "USER" if fact is Fact.FAILED_USER else "SYSTEM", "reason": "R", "message": "m"}
    return Report("ftjob-1", 1, token, number, kind, body=body)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda transition: transition.name)
def test_every_state_with_every_transition(state: State, transition: Transition) -> None:
    job = a_job(state)
    if state not in transition.sources:
        with pytest.raises(JobNotActive) as refused:
            job.apply(transition, LATER, "because")
        assert refused.value.metadata["state"] == state
        return
    after = job.apply(transition, LATER, "because")
    assert (after.state, after.version, after.cause, after.update_time) == (transition.target, 2, "because", LATER)
    assert (after.end_time is not None) == (transition.target in ENDED)
    assert after.token == (7 if transition.target in WORKING else 0)


def test_no_transition_leaves_an_ended_state() -> None:
    assert not any(transition.sources & ENDED for transition in TRANSITIONS)


# The written outcome of every pair: rows are states, columns started, data, finished, stopped, failed by the input,
# failed by the system, lost.
WRITTEN = {
    State.VALIDATING: "ignore ignore ignore ignore ignore ignore ignore",
    State.QUEUED: "apply apply finish retry fail retry retry",
    State.RUNNING: "apply apply finish retry fail retry retry",
    State.PAUSING: "apply apply finish rest fail rest rest",
    State.PAUSED: "ignore ignore ignore ignore ignore ignore ignore",
    State.RESUMING: "apply apply finish retry fail retry retry",
    State.STOPPING: "apply apply finish close close close close",
    State.SUCCEEDED: "ignore ignore ignore ignore ignore ignore ignore",
    State.FAILED: "ignore ignore ignore ignore ignore ignore ignore",
    State.STOPPED: "ignore ignore ignore ignore ignore ignore ignore",
}
DATA = (Fact.PROGRESS, Fact.METRICS, Fact.CHECKPOINT, Fact.RESULT)
ENDINGS = (Fact.FINISHED, Fact.STOPPED, Fact.FAILED_USER, Fact.FAILED_SYSTEM, Fact.LOST)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("fact", Fact)
def test_every_state_with_every_report(state: State, fact: Fact) -> None:
    words = WRITTEN[state].split()
    expected = words[0] if fact is Fact.STARTED else words[1] if fact in DATA else words[2 + ENDINGS.index(fact)]
    assert OUTCOMES[(state, fact)] == expected
    states = {
        Outcome.IGNORE: state,
        Outcome.APPLY: State.RUNNING if state in WAITING else state,
        Outcome.FINISH: State.SUCCEEDED,
        Outcome.CLOSE: State.STOPPED,
        Outcome.FAIL: State.FAILED,
        Outcome.RETRY: State.RESUMING,
        Outcome.REST: State.PAUSED,
    }
    job = a_job(state, attempts_without_checkpoint=1)
    after = [job, *moves(job, Outcome(expected), LATER, "because")][-1]
    assert after.state == states[Outcome(expected)]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("fact", [fact for fact in Fact if fact is not Fact.LOST])
def test_a_report_with_another_token_is_ignored(state: State, fact: Fact) -> None:
    assert outcome_of(a_job(state), a_report(fact, token=6)) is Outcome.IGNORE
    assert outcome_of(a_job(state, token=0), a_report(fact, token=0)) is Outcome.IGNORE


def test_finished_before_the_service_saw_the_start_tells_both() -> None:
    after = moves(a_job(State.QUEUED), Outcome.FINISH, LATER, "Done.")
    assert [job.state for job in after] == [State.RUNNING, State.SUCCEEDED]
    assert [job.version for job in after] == [2, 3]


def test_stop_of_a_queued_job_is_at_once_and_its_token_is_void() -> None:
    stopped = a_job(State.QUEUED).stop(LATER, "Stopped.")
    assert stopped.state is State.STOPPED
    assert outcome_of(stopped, a_report(Fact.FINISHED)) is Outcome.IGNORE


def test_stop_is_idempotent_and_refused_after_another_end() -> None:
    stopping = a_job(State.RUNNING).stop(LATER, "Stopped.")
    assert stopping.stop(LATER, "Again.") is stopping
    for state in (State.SUCCEEDED, State.FAILED):
        with pytest.raises(JobNotActive):
            a_job(state).stop(LATER, "Stopped.")


def test_three_attempts_without_a_checkpoint_fail_the_job() -> None:
    job = a_job(State.QUEUED, token=0, attempt=0)
    for token in range(1, ATTEMPT_LIMIT + 1):
        job = job.grant(token, LATER)
        job = moves(job, Outcome.APPLY, LATER, "")[-1]
        job = retry(job, LATER, "The worker was killed.", None)
    assert (job.state, job.attempt) == (State.FAILED, 3)
    assert job.failure is not None and job.failure.kind is FailureKind.SYSTEM
    assert "killed" in job.failure.message


def test_a_checkpoint_starts_the_count_anew() -> None:
    job = a_job(State.QUEUED, token=0, attempt=0)
    for token in range(1, 10):
        job = moves(job.grant(token, LATER), Outcome.APPLY, LATER, "")[-1]
        job = retry(job.advance(f"ftckpt_{token}", token, LATER), LATER, "The worker was killed.", None)
        assert job.state is State.RESUMING
    assert "step 9" in job.cause


def test_the_last_reported_failure_is_the_one_shown() -> None:
    job = a_job(State.RUNNING, attempts_without_checkpoint=ATTEMPT_LIMIT)
    told = Failure("STORE_AWAY", "The store does not answer.", FailureKind.SYSTEM)
    failed = retry(job, LATER, "The store does not answer.", told)
    assert failed.failure is not None and failed.failure.reason == "STORE_AWAY"


def test_a_token_must_be_newer() -> None:
    with pytest.raises(ValueError, match="not newer"):
        a_job(State.QUEUED).grant(7, LATER)
    with pytest.raises(JobNotActive):
        a_job(State.RUNNING).grant(8, LATER)


@pytest.mark.parametrize("order", range(200))
def test_stop_crossing_finish(order: int) -> None:
    """200 orders of a stop, reports, losses and grants: one end, never left, and no report of an old token counts."""
    chance = random.Random(order)
    job, token, ends = a_job(State.QUEUED, token=0, attempt=0, version=1), 0, 0
    todo = ["stop", "finished", "stopped", "lost", "old", "progress", "grant", "grant", "finished", "failed"]
    chance.shuffle(todo)
    for step in ["grant", *todo, "grant", "finished", "stop"]:
        before = job
        if step == "grant":
            if job.state in WAITING:
                token += 1
                job = job.grant(token, LATER)
        elif step == "stop":
            if job.state not in (State.SUCCEEDED, State.FAILED):
                job = job.stop(LATER, "Stopped.")
        else:
            job = crossing(job, step, token)
        ends += before.state not in ENDED and job.state in ENDED
        assert job.state == before.state or before.state not in ENDED
        assert job.version >= before.version
        if step == "stop":
            assert job.state not in LEASED - {State.STOPPING}
    assert ends == 1 and job.state in ENDED


def crossing(job: JobCore, step: str, token: int) -> JobCore:
    fact = {"old": Fact.FINISHED, "failed": Fact.FAILED_USER}.get(step) or Fact(step)
    if fact is Fact.LOST:
        outcome = OUTCOMES[(job.state, fact)] if job.token else Outcome.IGNORE
    else:
        outcome = outcome_of(job, a_report(fact, token=token - 1 if step == "old" else token))
    if step == "old":
        assert outcome is Outcome.IGNORE
    return [job, *moves(job, outcome, LATER, step)][-1]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"format": 9}, "format"),
        ({"job_id": 1}, "job_id"),
        ({"number": "x"}, "number"),
        ({"token": None}, "token"),
        ({"secret": 1}, "secret"),
        ({"secret": "é"}, "secret"),
        ({"kind": "dance"}, "kind"),
        ({"body": []}, "body"),
    ],
)
def test_a_report_that_is_wrong_names_its_field(change: dict[str, object], field: str) -> None:
    data = {"format": 1, "job_id": "ftjob-1", "attempt": 1, "token": 7, "number": 1, "kind": "started", "body": {}}
    assert Report.parse(data).fact is Fact.STARTED
    with pytest.raises(Invalid) as refused:
        Report.parse({**data, **change})
    assert field in str([violation.field for violation in refused.value.violations])


def test_a_failure_without_words_gets_some() -> None:
    failure = failure_of(Report("ftjob-1", 1, 7, 1, "failed", body={}))
    assert failure.kind is FailureKind.SYSTEM and failure.message
