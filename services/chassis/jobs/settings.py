"""The settings of a service that runs jobs."""

from pydantic import Field

from services.chassis.launch import LaunchSettings


class JobSettings(LaunchSettings):
    """What the job engine and its launcher need beside the common settings; windows are seconds."""

    exit_seconds: float = Field(20, ge=0, description="a worker is killed that has not ended so long after its report")
    start_seconds: float = Field(120, gt=0, description="longest time from a worker's start to its first heartbeat")
    stop_seconds: float = Field(600, gt=0, description="longest time that a worker takes to stop with a checkpoint")
    signal_seconds: float = Field(15, gt=0, description="how often a stop is sent again until it is seen")
    flush_seconds: float = Field(10, gt=0, description="how often the running time of workers is written down")
