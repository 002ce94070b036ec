"""The rules of the registry: entities, states and references. Pure."""

from services.registry.domain.entities import (
    COMPLETE,
    FAIL,
    GIVE_UP,
    PREPARE,
    PRESETS,
    Alias,
    AliasTarget,
    Files,
    Kind,
    Link,
    Model,
    ModelVersion,
    Origin,
    State,
    fine_tuned_name,
    refuse_preset,
)
from services.registry.domain.references import Reference, parse_reference, version_key

__all__ = [
    "COMPLETE",
    "FAIL",
    "GIVE_UP",
    "PREPARE",
    "PRESETS",
    "Alias",
    "AliasTarget",
    "Files",
    "Kind",
    "Link",
    "Model",
    "ModelVersion",
    "Origin",
    "Reference",
    "State",
    "fine_tuned_name",
    "parse_reference",
    "refuse_preset",
    "version_key",
]
