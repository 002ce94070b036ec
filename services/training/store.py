"""The tables of the training service, and the unit of work with its repositories."""

from modelry.training.v1 import training_pb2 as pb
from services.chassis.data import Database, Repository, UnitOfWork, chassis_metadata, table_of
from services.chassis.garbage import garbage_table
from services.chassis.jobs import JobStore, add_job_tables
from services.training.domain import Checkpoint, Job

metadata = chassis_metadata()
JOBS = table_of(Job, metadata, "jobs")
CHECKPOINTS = table_of(Checkpoint, metadata, "checkpoints", unique=(), indexes=(("job_id", "step"),))
GARBAGE = garbage_table(metadata)
JOB_TABLES = add_job_tables(metadata)


def jobs_of(uow: UnitOfWork) -> Repository[Job]:
    """Return the jobs, on any unit of work."""
    return Repository(uow, JOBS, Job, "job", message=pb.Job, columns={"finish_time": "end_time"})


def checkpoints_of(uow: UnitOfWork) -> Repository[Checkpoint]:
    """Return the checkpoints, on any unit of work."""
    return Repository(uow, CHECKPOINTS, Checkpoint, "checkpoint", message=pb.Checkpoint)


class TrainingUnit(UnitOfWork):
    """One transaction of the training service."""

    def __init__(self, database: Database, *, write: bool = True) -> None:
        super().__init__(database, write=write)
        self.jobs = jobs_of(self)
        self.checkpoints = checkpoints_of(self)

    @property
    def attempts(self) -> JobStore:
        """The job engine's own tables."""
        return JobStore(self.connection, JOB_TABLES)
