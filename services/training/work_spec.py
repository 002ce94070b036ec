"""What a training worker is told: one contract, for the service that writes it and the program.

It is the part `work` of an attempt's spec.json, whose names are those of the fields.
The service fills every one in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from services.chassis.errors import Invalid
from services.chassis.objects import ManifestJson
from services.training.domain import Hyperparameters

FORMAT = 1
"""Specs of version 0.1 name no format and are of this one."""
Recipe = Hyperparameters
"""How to train; names and units are those of the API's Hyperparameters."""


@dataclass(frozen=True)
class StoredManifest:
    """Files in a store: where they lie, and the manifest that says which."""

    bucket: str
    prefix: str
    manifest: ManifestJson


@dataclass(frozen=True)
class BaseModel(StoredManifest):
    """The model that is tuned. `chat_fingerprint` is empty when nobody recorded one."""

    version_id: str
    digest: str
    chat_fingerprint: str


@dataclass(frozen=True)
class Source(StoredManifest):
    """A data set: at most `max_samples` rows in the seeded order (0: all), each `weight` times an epoch."""

    file: str
    version_id: str
    max_samples: int
    weight: float


@dataclass(frozen=True)
class Output:
    """Where an attempt writes, and nothing else does."""

    bucket: str
    prefix: str


@dataclass(frozen=True)
class TrainingWork:
    """All that one attempt is to do. It writes below the output's prefix alone."""

    model: BaseModel
    datasets: tuple[Source, ...]
    validation_ratio: float
    hyperparameters: Recipe
    output: Output
    validation: Source | None = None
    resume: StoredManifest | None = None
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Return the part `work` of spec.json."""
        content: dict[str, Any] = _SPEC.dump_python(self, mode="json")
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrainingWork:
        """Return the work that `to_json` wrote. Raises: Invalid: it is of another format."""
        if content.get("format", FORMAT) != FORMAT:
            raise Invalid(f"The work has format {content['format']}; this worker reads {FORMAT}.", field="format")
        return _SPEC.validate_python(content)


_SPEC = TypeAdapter(TrainingWork)
