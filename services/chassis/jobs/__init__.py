"""The one job engine: a job has attempts, an attempt has a worker, and every job ends exactly once.

How a service adopts it:

1. Entity. Extend the core; all fields are keyword-only::

       @dataclass(frozen=True, kw_only=True)
       class Evaluation(JobCore):
           name: str = ""
           report: Report | None = None

   `JobCore` has id project version state cause failure create_time update_time start_time end_time token attempt
   attempts_without_checkpoint checkpoint_id checkpoint_step settled, all of them columns of
   ``table_of(Evaluation, metadata, "evaluations")`` (services.chassis.data). A new job starts VALIDATING (the engine
   asks `Stage.prepare` every second and then queues it) or QUEUED; ``create_time`` and ``update_time`` are given.

2. Tables. ``JOB_TABLES = add_job_tables(metadata)`` (services.chassis.jobs.store) adds the engine's own: job_attempts,
   job_counters, job_progress, job_metrics. They are part of the service's first migration.

3. Stage. Subclass `Stage[Evaluation]` (services.chassis.jobs.stage, word for word the interface): `name`, `resource`,
   `table`, `jobs(uow)`, `plan(job, attempt) -> Plan`, and, where needed, `prepare`, `granted`, `reported`,
   `reason_to_stop`, `ended`, `links`.

4. Engine, in `__main__`::

       engine = JobEngine(stage, JOB_TABLES, database, bus, launcher, settings)   # settings: JobSettings
       await engine.start()      # re-attaches, resumes, schedules; returns at once, also without NATS
       ...
       await engine.stop()       # ends the loops; workers go on

   `engine.kick()` after a create makes it look at once instead of within a second.

5. Verbs. A job that callers name and pay for extends `PricedJob`. ``JobVerbs(stage, intake, reservations, database,
   engine)`` then has `quote`, `create`, `stop`, `update` and `delete`; `Intake` is what the stage knows of a job before
   it runs, `Reservations` what a job sets aside. `Stage.prepare` calls ``reservations.confirm(job)`` and `Stage.ended`
   ``reservations.settle(job, run_seconds)``. Other jobs: ``job = job.stop(now, cause)``, save, emit
   ``changed(stage, before, job)``, commit, `engine.kick()`.

6. Watch. ``engine.watchers`` is a `Watchers`: ``async for job in engine.watch(project, ref)`` yields the job as it is,
   then each newer version, and ends after a terminal state. After your own commit call ``engine.watchers.notify(id)``.
   ``engine.progress(id) -> Progress``, ``engine.metrics(id, after_step, limit)``, ``engine.logs(id, follow)``.

What a worker may report and what it does to a job is `outcome.OUTCOMES`. STOPPING + finished is SUCCEEDED; STOPPING +
failed or lost is STOPPED; QUEUED + stop is STOPPED at once; an old token or an ended job is acked and counted.
A worker that is gone without a last word, or that failed by the system's fault, is followed by a new attempt from
`checkpoint_id`; after 3 attempts in a row without a new checkpoint the job is FAILED. A `checkpoint` (or `result`)
counts as one when `Stage.reported` returns ``job.advance(checkpoint_id, step, now)``.
"""

from services.chassis.jobs.context import changed, job_event
from services.chassis.jobs.domain import (
    ACTIVE,
    ATTEMPT_LIMIT,
    ENDED,
    LEASED,
    TRANSITIONS,
    WAITING,
    WORKING,
    Attempt,
    AttemptState,
    Fact,
    JobCore,
    JobNotActive,
    PricedJob,
    Report,
    State,
    refuse_delete,
)
from services.chassis.jobs.engine import JobEngine, JobView
from services.chassis.jobs.lease import Leases
from services.chassis.jobs.outcome import OUTCOMES, Outcome, failure_of, moves, outcome_of, retry
from services.chassis.jobs.reservations import Estimate, Reservations
from services.chassis.jobs.settings import JobSettings
from services.chassis.jobs.stage import Plan, Readiness, Stage
from services.chassis.jobs.store import JobStore, MetricPoint, Progress, add_job_tables
from services.chassis.jobs.verbs import CreateJob, Intake, JobVerbs

__all__ = [
    "ACTIVE",
    "ATTEMPT_LIMIT",
    "ENDED",
    "LEASED",
    "OUTCOMES",
    "TRANSITIONS",
    "WAITING",
    "WORKING",
    "Attempt",
    "AttemptState",
    "CreateJob",
    "Estimate",
    "Fact",
    "Intake",
    "JobCore",
    "JobEngine",
    "JobNotActive",
    "JobSettings",
    "JobStore",
    "JobVerbs",
    "JobView",
    "Leases",
    "MetricPoint",
    "Outcome",
    "Plan",
    "PricedJob",
    "Progress",
    "Readiness",
    "Report",
    "Reservations",
    "Stage",
    "State",
    "add_job_tables",
    "changed",
    "failure_of",
    "job_event",
    "moves",
    "outcome_of",
    "refuse_delete",
    "retry",
]
