"""The settings of a service that starts programs."""

from __future__ import annotations

from pydantic import Field

from services.chassis.settings import Settings


class LaunchSettings(Settings):
    """What the launcher may give out on this machine; the same for every service of a home.

    `launch_cpu_overcommit` 2.0 gives every core out twice, least loaded first: an evaluation may then run beside
    replicas that occupy all cores.
    """

    launch_cpus: int = Field(0, ge=0, description="cores given out; 0 is all that this process may use")
    launch_cpu_overcommit: float = Field(1.0, ge=1.0, description="slots per core")
    launch_memory_mb: int = Field(0, ge=0, description="memory given out in MiB; 0 is all of it")
    launch_gpus: int = Field(-1, ge=-1, description="GPUs given out; -1 is all there are")
