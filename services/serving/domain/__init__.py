"""The rules of serving: entities, plans and decisions. Pure."""

from services.serving.domain.deciding import Action, Limits, Program, Seen, Verb, decide, deployment_state
from services.serving.domain.entities import (
    Adapter,
    Billing,
    Deployment,
    Engine,
    Files,
    Mode,
    ModelFacts,
    Replica,
    ReplicaState,
    State,
)
from services.serving.domain.planning import (
    ATTACHED_SLOWDOWN,
    adapter_of,
    choose_engine,
    choose_mode,
    cores_of,
    covering_rank,
    memory_mb,
    memory_terms,
)

__all__ = [
    "ATTACHED_SLOWDOWN",
    "Action",
    "Adapter",
    "Billing",
    "Deployment",
    "Engine",
    "Files",
    "Limits",
    "Mode",
    "ModelFacts",
    "Program",
    "Replica",
    "ReplicaState",
    "Seen",
    "State",
    "Verb",
    "adapter_of",
    "choose_engine",
    "choose_mode",
    "cores_of",
    "covering_rank",
    "decide",
    "deployment_state",
    "memory_mb",
    "memory_terms",
]
