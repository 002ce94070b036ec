"""The settings of a service that starts programs."""

from pydantic import Field

from services.chassis.settings import Settings

PROGRAM_SLOTS = 4
"""Two imports, and room beside them for a model's preparation and a merge."""

OVERCOMMIT = 2.0
"""A replica holds the cores of a small machine all day and computes now and then: jobs fit beside it."""


class LaunchSettings(Settings):
    """What the launcher may give out on this machine; the same for every service of a home."""

    launch_cpus: int = Field(
        0, ge=0, description="cores given out; 0 is all that this process may use (affinity, and the quota of a cgroup)"
    )
    launch_cpu_overcommit: float = Field(
        OVERCOMMIT,
        ge=1.0,
        description="slots per core; at 2.0 jobs run beside replicas that occupy all cores. Two jobs share no core",
    )
    launch_isolation: bool = Field(
        True,
        description="keep programs of a project from the files of others: as root by users of `launch_user_ids`, "
        "else in namespaces, where the machine allows them",
    )
    launch_user_ids: str = Field(
        "2000000000-2000065535",
        pattern=r"^[0-9]{3,10}-[0-9]{3,10}$",
        description="users that programs run as when the installation runs as root, one for each project; "
        "nobody else on the machine may have them",
    )
    launch_memory_mb: int = Field(0, ge=0, description="memory given out in MiB; 0 is all of it")
    launch_program_slots: int = Field(
        PROGRAM_SLOTS, ge=1, description="one-shot programs (imports, preparations, merges) that run at once"
    )
    launch_gpus: int = Field(-1, ge=-1, description="GPUs given out; -1 is all there are")
