"""The rules of serving: entities, plans, decisions and routes. Pure."""

from services.serving.domain.deciding import Action, Limits, Program, Seen, Verb, decide, stand
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
    living,
)
from services.serving.domain.planning import (
    ATTACHED_SLOWDOWN,
    adapter_of,
    choose_mode,
    cores_of,
    covering_rank,
    memory_mb,
    memory_terms,
    settle_engine,
)
from services.serving.domain.routing import route_of, with_secrets

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
    "choose_mode",
    "cores_of",
    "covering_rank",
    "decide",
    "living",
    "memory_mb",
    "memory_terms",
    "route_of",
    "settle_engine",
    "stand",
    "with_secrets",
]
