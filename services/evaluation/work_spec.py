"""What an evaluation worker is told: one contract, for the service that writes it and the program.

It is the part `work` of an attempt's spec.json, whose names are those of the fields. The service fills every one in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Discriminator, TypeAdapter

from services.chassis.errors import Invalid
from services.chassis.objects import ManifestJson
from services.evaluation.domain import Generation

FORMAT = 1
SYSTEM = "system"
"""The name of the installation's own store in a spec."""
Sampling = Generation
"""Every field that decides what a model generates; names are those of the API's Generation."""


@dataclass(frozen=True)
class Files:
    """Files in a store: `store` is a name of the spec's stores."""

    store: str
    bucket: str
    prefix: str
    manifest: ManifestJson


@dataclass(frozen=True)
class Target:
    """A model to evaluate: a base, and the adapter on it or None."""

    label: str
    role: str
    version_id: str
    base: Files
    adapter: Files | None


@dataclass(frozen=True)
class PresetTask:
    """A preset benchmark and where its files are. `shots` None is the preset's own; `max_samples` 0 is all."""

    name: str
    preset: str
    shots: int | None
    split: str
    subjects: tuple[str, ...]
    max_samples: int
    store: str
    bucket: str
    prefix: str
    kind: Literal["preset"] = "preset"


@dataclass(frozen=True)
class Stopwords:
    """A list of stop words: an own one with its words, or a preset by its name."""

    name: str
    words: tuple[str, ...] | None


@dataclass(frozen=True)
class CustomTask(Files):
    """An own set."""

    name: str
    file: str
    stopwords: tuple[Stopwords, ...]
    max_samples: int
    system_prompt: str
    kind: Literal["custom"] = "custom"


@dataclass(frozen=True)
class Output:
    """Where an attempt writes, and nothing else does."""

    bucket: str
    prefix: str


@dataclass(frozen=True)
class EvaluationWork:
    """All that one attempt is to do. It writes below the output's prefix alone."""

    targets: tuple[Target, ...]
    tasks: tuple[Annotated[PresetTask | CustomTask, Discriminator("kind")], ...]
    generation: Sampling
    output: Output
    kv_space_gb: int
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Return the part `work` of spec.json."""
        content: dict[str, Any] = _SPEC.dump_python(self, mode="json")
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EvaluationWork:
        """Return the work that `to_json` wrote. Raises: Invalid: it is of another format."""
        if content["format"] != FORMAT:
            raise Invalid(f"The work has format {content['format']}; this worker reads {FORMAT}.", field="format")
        return _SPEC.validate_python(content)


_SPEC = TypeAdapter(EvaluationWork)
