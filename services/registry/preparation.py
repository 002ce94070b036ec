"""What the preparing program of a model is told and what it says: one contract, for the preparer and the program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from services.chassis.errors import Invalid
from services.chassis.objects import Manifest, StoreAccess

FORMAT = 1
MODULE = "services.registry.worker"


@dataclass(frozen=True)
class ModelSource:
    """Where a model may come from, by its kind.

    `directory`: a folder of this machine (path). `object`: a folder of a bucket (access, bucket, prefix). `gguf`: a
    file in an installed package (package, file). `hub`: a repository of the hub, with the token that opens it, if any.
    """

    kind: str
    path: str = ""
    access: StoreAccess | None = None
    bucket: str = ""
    prefix: str = ""
    package: str = ""
    file: str = ""
    repository: str = ""
    token: str = field(default="", repr=False)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ModelSource:
        """Return the source of a spec or of the catalogue of presets."""
        access = content.get("access")
        return cls(**{**content, "access": StoreAccess.from_json(access) if access else None})


@dataclass(frozen=True)
class Preparation:
    """The order: sources, tried one after the other, and where the weights go."""

    sources: tuple[ModelSource, ...]
    access: StoreAccess
    bucket: str
    prefix: str

    def to_json(self) -> dict[str, Any]:
        """Return the spec, with the secrets of stores: for a 0600 file only."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Preparation:
        """Return the order that `to_json` wrote. Raises: Invalid: it is of another format."""
        if content.get("format", FORMAT) != FORMAT:
            raise Invalid(f"The spec has format {content['format']}; this program reads {FORMAT}.", field="format")
        sources = tuple(map(ModelSource.from_json, content["sources"]))
        return cls(sources, StoreAccess.from_json(content["access"]), content["bucket"], content["prefix"])


@dataclass(frozen=True)
class ModelFacts:
    """What a checked model is; `shape` is what the memory estimate needs."""

    architecture: str
    parameter_count: int
    context_length: int
    shape: Mapping[str, int]
    chat_fingerprint: str


@dataclass(frozen=True)
class PreparedModel:
    """What the program made: the stored weights, and what they are."""

    bucket: str
    prefix: str
    manifest: Manifest
    facts: ModelFacts

    def to_json(self) -> dict[str, Any]:
        """Return the result of the program."""
        place = {"bucket": self.bucket, "prefix": self.prefix, "manifest": self.manifest.to_json()}
        return place | vars(self.facts) | {"shape": dict(self.facts.shape)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PreparedModel:
        """Return the result that `to_json` wrote."""
        facts = ModelFacts(**{field.name: content[field.name] for field in fields(ModelFacts)})
        return cls(content["bucket"], content["prefix"], Manifest.from_json(content["manifest"]), facts)
