"""The settings of a service that runs jobs."""

from pydantic import Field

from services.chassis.launch import LaunchSettings


class JobSettings(LaunchSettings):
    """What the job engine and its launcher need beside the common settings; windows are seconds."""

    exit_seconds: float = Field(20, ge=0)
    """How long a worker may take to end by itself after its last report, before it is killed."""
    start_seconds: float = Field(120, gt=0)
    """How long a worker may take from its start to its first heartbeat (it imports large libraries)."""
    stop_seconds: float = Field(600, gt=0)
    """How long a worker may take to stop with a checkpoint, before it is killed."""
    signal_seconds: float = Field(15, gt=0)
    """How often a stop is sent again until it is seen."""
    flush_seconds: float = Field(10, gt=0)
    """How often the running time of workers is written down."""
