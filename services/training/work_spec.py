"""What a training worker is told: one contract, for the service that writes it and the program.

It is the part `work` of an attempt's spec.json. No field has a default here: the service fills every one in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from services.chassis.errors import Invalid
from services.chassis.objects import Manifest

FORMAT = 1
"""Specs of version 0.1 name no format and are of this one."""


@dataclass(frozen=True)
class StoredManifest:
    """Files in a store: where they lie, and the manifest that says which."""

    bucket: str
    prefix: str
    manifest: Manifest

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        return {"bucket": self.bucket, "prefix": self.prefix, "manifest": self.manifest.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> StoredManifest:
        """Return the files that `to_json` wrote."""
        return cls(content["bucket"], content["prefix"], Manifest.from_json(content["manifest"]))


@dataclass(frozen=True)
class BaseModel:
    """The model that is tuned. `chat_fingerprint` is empty when nobody recorded one."""

    files: StoredManifest
    version_id: str
    digest: str
    chat_fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """Return its fields beside those of its files."""
        return {**self.files.to_json(), **_plain(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> BaseModel:
        """Return the model that `to_json` wrote."""
        return cls(StoredManifest.from_json(content), **_named(cls, content))


@dataclass(frozen=True)
class Source:
    """A data set: at most `max_samples` rows in the seeded order (0: all), each `weight` times an epoch."""

    files: StoredManifest
    file: str
    version_id: str
    max_samples: int
    weight: float

    def to_json(self) -> dict[str, Any]:
        """Return its fields beside those of its files."""
        return {**self.files.to_json(), **_plain(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Source:
        """Return the data set that `to_json` wrote."""
        return cls(StoredManifest.from_json(content), **_named(cls, content))


@dataclass(frozen=True)
class Recipe:
    """How to train; names and units are those of the API's Hyperparameters."""

    learning_rate: float
    epochs: float
    batch_size: int
    gradient_accumulation: int
    compute_type: str
    checkpoint_interval: int
    logging_interval: int
    cutoff_length: int
    lr_scheduler: str
    warmup_ratio: float
    flash_attention: str
    lora_rank: int
    lora_alpha: int
    lora_dropout: float
    lora_plus_ratio: float
    weight_decay: float
    max_gradient_norm: float
    neftune_alpha: float
    target_modules: tuple[str, ...]
    deepspeed_stage: int
    world_size: int
    early_stopping_patience: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        return {**asdict(self), "target_modules": list(self.target_modules)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `to_json` wrote; what it does not know is another's."""
        return cls(**_named(cls, {**content, "target_modules": tuple(content["target_modules"])}))


@dataclass(frozen=True)
class TrainingWork:
    """All that one attempt is to do. It writes below `output_prefix` alone."""

    model: BaseModel
    datasets: tuple[Source, ...]
    validation: Source | None
    validation_ratio: float
    recipe: Recipe
    output_bucket: str
    output_prefix: str
    resume: StoredManifest | None

    def to_json(self) -> dict[str, Any]:
        """Return the part `work` of spec.json."""
        return {
            "format": FORMAT,
            "model": self.model.to_json(),
            "datasets": [one.to_json() for one in self.datasets],
            "validation": self.validation.to_json() if self.validation else None,
            "validation_ratio": self.validation_ratio,
            "hyperparameters": self.recipe.to_json(),
            "output": {"bucket": self.output_bucket, "prefix": self.output_prefix},
            "resume": self.resume.to_json() if self.resume else None,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrainingWork:
        """Return the work that `to_json` wrote. Raises: Invalid: it is of another format."""
        if content.get("format", FORMAT) != FORMAT:
            raise Invalid(f"The work has format {content['format']}; this worker reads {FORMAT}.", field="format")
        validation, resume = content.get("validation"), content.get("resume")
        return cls(
            model=BaseModel.from_json(content["model"]),
            datasets=tuple(Source.from_json(one) for one in content["datasets"]),
            validation=Source.from_json(validation) if validation else None,
            validation_ratio=content["validation_ratio"],
            recipe=Recipe.from_json(content["hyperparameters"]),
            output_bucket=content["output"]["bucket"],
            output_prefix=content["output"]["prefix"],
            resume=StoredManifest.from_json(resume) if resume else None,
        )


def _plain(value: BaseModel | Source) -> dict[str, Any]:
    return {name: one for name, one in vars(value).items() if name != "files"}


def _named(kind: type[BaseModel | Source | Recipe], content: Mapping[str, Any]) -> dict[str, Any]:
    return {one.name: content[one.name] for one in fields(kind) if one.name != "files"}
