"""The tables of the evaluation service, and the unit of work with its repositories."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import delete, insert

from modelry.evaluation.v1 import evaluation_pb2 as pb
from services.chassis.data import Database, Repository, UnitOfWork, chassis_metadata, table_of
from services.chassis.garbage import garbage_table
from services.chassis.jobs import JobStore, add_job_tables
from services.evaluation.domain import Evaluation, OwnStopwords, ReportPart, StoredSample

metadata = chassis_metadata()
EVALUATIONS = table_of(Evaluation, metadata, "evaluations")
SAMPLES = table_of(StoredSample, metadata, "samples", indexes=(("evaluation_id", "id"), ("evaluation_id", "score")))
PARTS = table_of(ReportPart, metadata, "report_parts", indexes=(("evaluation_id", "id"),))
STOPWORDS = table_of(OwnStopwords, metadata, "stopword_lists")
GARBAGE = garbage_table(metadata)
JOB_TABLES = add_job_tables(metadata)


def evaluations_of(uow: UnitOfWork) -> Repository[Evaluation]:
    """Return the evaluations, on any unit of work."""
    columns = {"finish_time": "end_time"}
    return Repository(uow, EVALUATIONS, Evaluation, "evaluation", message=pb.Evaluation, columns=columns)


def parts_of(uow: UnitOfWork) -> Repository[ReportPart]:
    """Return the pieces of reports, on any unit of work."""
    return Repository(uow, PARTS, ReportPart, "report part")


class EvaluationUnit(UnitOfWork):
    """One transaction of the evaluation service."""

    def __init__(self, database: Database, *, write: bool = True) -> None:
        super().__init__(database, write=write)
        self.evaluations = evaluations_of(self)
        self.samples = Repository(
            self,
            SAMPLES,
            StoredSample,
            "sample",
            message=pb.Sample,
            columns={"index": "number", "group": "subject"},
            default_order="id",  # by task, question and target
        )
        self.parts = parts_of(self)
        self.stopwords = Repository(self, STOPWORDS, OwnStopwords, "stop-word list")

    @property
    def attempts(self) -> JobStore:
        """The job engine's own tables."""
        return JobStore(self.connection, JOB_TABLES)


async def add_samples(uow: UnitOfWork, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert many samples at once."""
    values = [dict(row) for row in rows]
    if values:
        await uow.connection.execute(insert(SAMPLES), values)


async def drop_results(uow: UnitOfWork, evaluation_id: str) -> None:
    """Remove the samples and the report of an evaluation: another attempt brings them anew, or it is deleted."""
    await uow.connection.execute(delete(SAMPLES).where(SAMPLES.c.evaluation_id == evaluation_id))
    await uow.connection.execute(delete(PARTS).where(PARTS.c.evaluation_id == evaluation_id))
