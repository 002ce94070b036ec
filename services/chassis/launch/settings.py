"""The settings of a service that starts programs."""

from pydantic import Field

from services.chassis.settings import Settings

PROGRAM_SLOTS = 4
"""Two imports, and room beside them for a model's preparation and a merge."""


class LaunchSettings(Settings):
    """What the launcher may give out on this machine; the same for every service of a home."""

    launch_cpus: int = Field(0, ge=0, description="cores given out; 0 is all that this process may use")
    launch_cpu_overcommit: float = Field(
        1.0, ge=1.0, description="slots per core; at 2.0 an evaluation may run beside replicas that occupy all cores"
    )
    launch_memory_mb: int = Field(0, ge=0, description="memory given out in MiB; 0 is all of it")
    launch_program_slots: int = Field(
        PROGRAM_SLOTS, ge=1, description="one-shot programs (imports, preparations, merges) that run at once"
    )
    launch_gpus: int = Field(-1, ge=-1, description="GPUs given out; -1 is all there are")
