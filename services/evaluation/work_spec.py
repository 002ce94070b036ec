"""What an evaluation worker is told: one contract, for the service that writes it and the program.

It is the part `work` of an attempt's spec.json. No field has a default here: the service fills every one in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from services.chassis.errors import Invalid
from services.chassis.objects import Manifest
from services.evaluation.reporting.build import BASELINE

FORMAT = 1
SYSTEM = "system"
"""The name of the installation's own store in a spec."""


@dataclass(frozen=True)
class Files:
    """Files in a store: `store` is a name of the spec's stores."""

    store: str
    bucket: str
    prefix: str
    manifest: Manifest

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        return {**vars(self), "manifest": self.manifest.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Files:
        """Return the files that `to_json` wrote; version 0.1 wrote the manifest as text."""
        manifest = content["manifest"]
        manifest = json.loads(manifest) if isinstance(manifest, str) else manifest
        return cls(content["store"], content["bucket"], content["prefix"], Manifest.from_json(manifest))


@dataclass(frozen=True)
class Target:
    """A model to evaluate: a base, and the adapter on it or None."""

    label: str
    role: str
    version_id: str
    base: Files
    adapter: Files | None

    @property
    def baseline(self) -> bool:
        """Whether the others are compared with it."""
        return self.role == BASELINE

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        return {
            **vars(self),
            "base": self.base.to_json(),
            "adapter": self.adapter.to_json() if self.adapter else None,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Target:
        """Return the target that `to_json` wrote."""
        base, adapter = Files.from_json(content["base"]), content["adapter"]
        files = Files.from_json(adapter) if adapter else None
        return cls(content["label"], content["role"], content["version_id"], base, files)


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

    def to_json(self) -> dict[str, Any]:
        """Return its fields and its kind."""
        return {"kind": "preset", **vars(self), "subjects": list(self.subjects)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PresetTask:
        """Return the task that `to_json` wrote."""
        values = {name: value for name, value in content.items() if name != "kind"}
        return cls(**{**values, "subjects": tuple(content["subjects"])})


@dataclass(frozen=True)
class CustomTask:
    """An own set. `stopwords`: (name, words) of own lists, (name, None) of presets."""

    name: str
    data: Files
    file: str
    stopwords: tuple[tuple[str, tuple[str, ...] | None], ...]
    max_samples: int
    system_prompt: str

    def to_json(self) -> dict[str, Any]:
        """Return its fields beside those of its files, and its kind."""
        return {
            "kind": "custom",
            **self.data.to_json(),
            "name": self.name,
            "file": self.file,
            "stopwords": [{"name": name, "words": words and list(words)} for name, words in self.stopwords],
            "max_samples": self.max_samples,
            "system_prompt": self.system_prompt,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CustomTask:
        """Return the task that `to_json` wrote."""
        lists = content["stopwords"]
        return cls(
            name=content["name"],
            data=Files.from_json(content),
            file=content["file"],
            stopwords=tuple((one["name"], tuple(one["words"]) if one["words"] else None) for one in lists),
            max_samples=content["max_samples"],
            system_prompt=content["system_prompt"],
        )


@dataclass(frozen=True)
class Sampling:
    """Every field that decides what a model generates; names are those of the API's Generation."""

    max_tokens: int
    temperature: float
    top_p: float
    repetition_penalty: float
    stop: tuple[str, ...]
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        return {**asdict(self), "stop": list(self.stop)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Sampling:
        """Return the sampling that `to_json` wrote."""
        return cls(**{**content, "stop": tuple(content["stop"])})


@dataclass(frozen=True)
class EvaluationWork:
    """All that one attempt is to do. It writes below `prefix` alone."""

    targets: tuple[Target, ...]
    tasks: tuple[PresetTask | CustomTask, ...]
    sampling: Sampling
    bucket: str
    prefix: str
    kv_space_gb: int

    def to_json(self) -> dict[str, Any]:
        """Return the part `work` of spec.json."""
        return {
            "format": FORMAT,
            "targets": [one.to_json() for one in self.targets],
            "tasks": [one.to_json() for one in self.tasks],
            "generation": self.sampling.to_json(),
            "output": {"bucket": self.bucket, "prefix": self.prefix},
            "kv_space_gb": self.kv_space_gb,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EvaluationWork:
        """Return the work that `to_json` wrote. Raises: Invalid: it is of another format."""
        if content["format"] != FORMAT:
            raise Invalid(f"The work has format {content['format']}; this worker reads {FORMAT}.", field="format")
        return cls(
            targets=tuple(Target.from_json(one) for one in content["targets"]),
            tasks=tuple(
                PresetTask.from_json(one) if one["kind"] == "preset" else CustomTask.from_json(one)
                for one in content["tasks"]
            ),
            sampling=Sampling.from_json(content["generation"]),
            bucket=content["output"]["bucket"],
            prefix=content["output"]["prefix"],
            kv_space_gb=content["kv_space_gb"],
        )
