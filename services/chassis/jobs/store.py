"""The engine's own tables beside a stage's table of jobs: attempts, counters, and the high-rate data of a job.

Progress and metric points change many times a second and never change a job's version.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, MetaData, Table, Text, delete, func, insert, or_, select, update

from services.chassis.data import Connection, JsonOf, UtcTime, table_of
from services.chassis.jobs.domain import ENDED, Attempt, AttemptState

TOKENS = "tokens"
"""The counter that fencing tokens come from."""

_SEQUENCE_ATTEMPT = 1 << 32


@dataclass(frozen=True)
class Progress:
    """How far a running job is, as its worker told last."""

    done: float = 0.0
    total: float = 0.0
    """In all; 0 while unknown."""
    unit: str = ""
    phase: str = ""
    eta_seconds: float | None = None
    extra: Mapping[str, Any] | None = None
    """What the worker told beside these."""


@dataclass(frozen=True)
class MetricPoint:
    """What was measured at one step of a job."""

    step: int
    values: Mapping[str, float]
    sequence: int = 0
    """Grows with every change of any point of the job: a follower goes on after the last one that it saw."""


@dataclass(frozen=True)
class JobTables:
    """The engine's tables in a service's metadata."""

    attempts: Table
    counters: Table
    progress: Table
    metrics: Table


def add_job_tables(metadata: MetaData) -> JobTables:
    """Declare the engine's tables. Call it once, beside the service's own tables."""
    return JobTables(
        attempts=table_of(Attempt, metadata, "job_attempts", key=("job_id", "number"), indexes=(("state",),)),
        counters=Table(
            "job_counters",
            metadata,
            Column("name", Text, primary_key=True),
            Column("value", BigInteger, nullable=False),
        ),
        progress=Table(
            "job_progress",
            metadata,
            Column("job_id", Text, primary_key=True),
            Column("progress", JsonOf(Progress), nullable=False),
            Column("update_time", UtcTime, nullable=False),
        ),
        metrics=Table(
            "job_metrics",
            metadata,
            Column("job_id", Text, primary_key=True),
            Column("step", BigInteger, primary_key=True, autoincrement=False),
            Column("sequence", BigInteger, nullable=False),
            Column("points", JsonOf(dict[str, float]), nullable=False),
        ),
    )


class JobStore:
    """Read and write the engine's tables on the connection of a unit of work."""

    def __init__(self, connection: Connection, tables: JobTables) -> None:
        self._connection = connection
        self._tables = tables

    async def next_token(self) -> int:
        """Return a fencing token greater than every one before it."""
        table = self._tables.counters
        step = update(table).where(table.c.name == TOKENS).values(value=table.c.value + 1)
        if (await self._connection.execute(step)).rowcount == 0:
            await self._connection.execute(insert(table).values(name=TOKENS, value=1))
        return int((await self._connection.execute(select(table.c.value).where(table.c.name == TOKENS))).scalar_one())

    async def needing(self, jobs: Table) -> list[str]:
        """Return the ids of the jobs that somebody must look after: not ended, not settled, or with an open attempt."""
        attempts = self._tables.attempts
        open_jobs = select(attempts.c.job_id).where(attempts.c.state != AttemptState.ENDED.name)
        ended = [state.name for state in ENDED]
        wanted = or_(jobs.c.state.not_in(ended), jobs.c.settled.is_(False), jobs.c.id.in_(open_jobs))
        rows = await self._connection.execute(select(jobs.c.id).where(wanted).order_by(jobs.c.create_time, jobs.c.id))
        return [str(row[0]) for row in rows]

    async def add_attempt(self, attempt: Attempt) -> None:
        """Store a new attempt."""
        await self._connection.execute(insert(self._tables.attempts).values(**asdict(attempt)))

    async def attempt(self, job_id: str, number: int) -> Attempt | None:
        """Return one attempt of a job."""
        rows = await self.attempts(job_id, number)
        return rows[0] if rows else None

    async def attempts(self, job_id: str, number: int | None = None) -> list[Attempt]:
        """Return the attempts of a job, oldest first."""
        table = self._tables.attempts
        query = select(table).where(table.c.job_id == job_id).order_by(table.c.number)
        if number is not None:
            query = query.where(table.c.number == number)
        names = [field.name for field in fields(Attempt)]
        rows = (await self._connection.execute(query)).mappings()
        return [Attempt(**{name: row[name] for name in names}) for row in rows]

    async def change_attempt(self, attempt: Attempt, **values: Any) -> None:
        """Set columns of an attempt."""
        table = self._tables.attempts
        which = (table.c.job_id == attempt.job_id) & (table.c.number == attempt.number)
        await self._connection.execute(update(table).where(which).values(**values))

    async def add_seconds(self, seconds: Mapping[tuple[str, int], float]) -> None:
        """Add running time to attempts, by (job, number)."""
        table = self._tables.attempts
        for (job_id, number), value in seconds.items():
            which = (table.c.job_id == job_id) & (table.c.number == number)
            await self._connection.execute(update(table).where(which).values(run_seconds=table.c.run_seconds + value))

    async def run_seconds(self, job_id: str) -> float:
        """Return how long the workers of a job ran, in all attempts."""
        table = self._tables.attempts
        query = select(func.sum(table.c.run_seconds)).where(table.c.job_id == job_id)
        return float((await self._connection.execute(query)).scalar() or 0.0)

    async def put_progress(self, job_id: str, progress: Progress, now: datetime) -> None:
        """Replace the progress of a job."""
        table = self._tables.progress
        values = {"progress": progress, "update_time": now}
        done = await self._connection.execute(update(table).where(table.c.job_id == job_id).values(**values))
        if done.rowcount == 0:
            await self._connection.execute(insert(table).values(job_id=job_id, **values))

    async def progress(self, job_ids: Sequence[str]) -> dict[str, Progress]:
        """Return the progress of these jobs, where any was told."""
        table = self._tables.progress
        query = select(table.c.job_id, table.c.progress).where(table.c.job_id.in_(job_ids))
        return {str(row[0]): row[1] for row in await self._connection.execute(query)}

    async def put_points(self, attempt: Attempt, number: int, points: Iterable[MetricPoint]) -> None:
        """Store metric points of report `number`; values of a step that has a point already are added to it."""
        new = {point.step: dict(point.values) for point in points}
        table = self._tables.metrics
        which = (table.c.job_id == attempt.job_id) & table.c.step.in_(list(new))
        for row in await self._connection.execute(select(table.c.step, table.c.points).where(which)):
            new[row[0]] = {**row[1], **new[row[0]]}
        if not new:
            return
        await self._connection.execute(delete(table).where(which))
        sequence = attempt.number * _SEQUENCE_ATTEMPT + number
        rows = [
            {"job_id": attempt.job_id, "step": step, "sequence": sequence, "points": values}
            for step, values in new.items()
        ]
        await self._connection.execute(insert(table), rows)

    async def points(
        self, job_id: str, *, after_step: int = -1, after_sequence: int = 0, limit: int = 1000
    ) -> list[MetricPoint]:
        """Return the points of a job by step; those after `after_step` that changed after `after_sequence`."""
        table = self._tables.metrics
        query = (
            select(table.c.step, table.c.points, table.c.sequence)
            .where(table.c.job_id == job_id, table.c.step > after_step, table.c.sequence > after_sequence)
            .order_by(table.c.step)
            .limit(limit)
        )
        return [MetricPoint(row[0], row[1], row[2]) for row in await self._connection.execute(query)]

    async def newest_values(self, job_id: str, depth: int = 200) -> dict[str, float]:
        """Return the newest value of each name among the last `depth` points of a job."""
        table = self._tables.metrics
        query = select(table.c.points).where(table.c.job_id == job_id).order_by(table.c.step.desc()).limit(depth)
        values: dict[str, float] = {}
        for (points,) in await self._connection.execute(query):
            values = {**points, **values}
        return values

    async def drop_points(self, job_id: str, after_step: int) -> None:
        """Remove the points after a step: the next attempt measures them anew."""
        table = self._tables.metrics
        await self._connection.execute(delete(table).where(table.c.job_id == job_id, table.c.step > after_step))

    async def remove(self, job_id: str) -> None:
        """Remove everything that the engine has of a deleted job."""
        for table in (self._tables.attempts, self._tables.progress, self._tables.metrics):
            await self._connection.execute(delete(table).where(table.c.job_id == job_id))
