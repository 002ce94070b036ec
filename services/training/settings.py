"""Settings of training: `MODELRY_TRAINING_<NAME>`."""

from pydantic import Field

from services.chassis.jobs import JobSettings
from services.clients.settings import ServiceAddresses


class TrainingSettings(JobSettings, ServiceAddresses):
    """How jobs are run and estimated on this machine."""

    job_cpus: int = Field(0, ge=0, description="most cores that a job takes; 0 is all that are free when it starts")
    tokens_per_second: float = Field(
        450.0, gt=0, description="real tokens a second that a model of 135M parameters trains on here, for quotes"
    )
    sweep_seconds: float = Field(30.0, gt=0, description="how often files that nobody refers to are deleted")
