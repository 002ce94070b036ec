"""What services and workers know of engines without loading one: adapters, accelerators, environment."""

from services.chassis.engines.accelerators import (
    ACCELERATORS,
    SPAN_ATTENTION,
    Accelerator,
    core_count,
    thread_count,
)
from services.chassis.engines.adapters import RANKS, attachable_rank, engine_rank, merge_only, merged_name
from services.chassis.engines.environment import bound_to_cores, engine_environment

__all__ = [
    "ACCELERATORS",
    "RANKS",
    "SPAN_ATTENTION",
    "Accelerator",
    "attachable_rank",
    "bound_to_cores",
    "core_count",
    "engine_environment",
    "engine_rank",
    "merge_only",
    "merged_name",
    "thread_count",
]
