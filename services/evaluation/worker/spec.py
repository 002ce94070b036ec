"""What the service tells the worker (`work` of spec.json), as types."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.chassis.objects import Manifest
from services.evaluation.reporting.build import BASELINE

FORMAT = 1


@dataclass(frozen=True)
class Files:
    """Files in a store: `store` is a name of the spec's stores."""

    store: str
    bucket: str
    prefix: str
    manifest: Manifest

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Files":
        """From JSON; the manifest may itself be JSON text, as services pass it on."""
        manifest = raw["manifest"]
        content = json.loads(manifest) if isinstance(manifest, str) else manifest
        return cls(raw.get("store", "system"), raw["bucket"], raw["prefix"], Manifest.from_json(content))


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


@dataclass(frozen=True)
class PresetTask:
    """A preset benchmark and where its files are. shots None is the preset's own."""

    name: str
    preset: str
    shots: int | None
    split: str
    subjects: tuple[str, ...]
    max_samples: int
    store: str
    bucket: str
    prefix: str


@dataclass(frozen=True)
class CustomTask:
    """An own set. stopwords: (name, words) of own lists, (name, None) of presets."""

    name: str
    data: Files
    file: str
    stopwords: tuple[tuple[str, tuple[str, ...] | None], ...]
    max_samples: int
    system_prompt: str


@dataclass(frozen=True)
class Sampling:
    """Every field that decides what a model generates."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Work:
    """The whole order."""

    targets: tuple[Target, ...]
    tasks: tuple[PresetTask | CustomTask, ...]
    sampling: Sampling
    bucket: str
    prefix: str
    kv_space_gb: int


def read_work(raw: Mapping[str, Any]) -> Work:
    """Read `work`.

    Raises: KeyError, ValueError, TypeError: it is not what this worker understands.
    """
    if raw.get("format", FORMAT) != FORMAT:
        raise ValueError(f"work has format {raw['format']}, this worker reads {FORMAT}")
    generation = dict(raw.get("generation") or {})
    generation["stop"] = tuple(generation.get("stop") or ())
    return Work(
        targets=tuple(_target(one) for one in raw["targets"]),
        tasks=tuple(_task(one) for one in raw["tasks"]),
        sampling=Sampling(**generation),
        bucket=raw["output"]["bucket"],
        prefix=raw["output"]["prefix"],
        kv_space_gb=int(raw.get("kv_space_gb", 1)),
    )


def _target(raw: Mapping[str, Any]) -> Target:
    adapter = raw.get("adapter")
    version = raw.get("version_id", "")
    return Target(raw["label"], raw["role"], version, Files.of(raw["base"]), Files.of(adapter) if adapter else None)


def _task(raw: Mapping[str, Any]) -> PresetTask | CustomTask:
    most = int(raw.get("max_samples") or 0)
    if raw["kind"] == "preset":
        return PresetTask(
            name=raw["name"],
            preset=raw["preset"],
            shots=raw.get("shots"),
            split=raw.get("split", ""),
            subjects=tuple(raw.get("subjects") or ()),
            max_samples=most,
            store=raw.get("store", "system"),
            bucket=raw["bucket"],
            prefix=raw["prefix"],
        )
    lists: Sequence[Mapping[str, Any]] = raw.get("stopwords") or ()
    return CustomTask(
        name=raw["name"],
        data=Files.of(raw),
        file=raw["file"],
        stopwords=tuple((one["name"], tuple(one["words"]) if one.get("words") else None) for one in lists),
        max_samples=most,
        system_prompt=raw.get("system_prompt") or "",
    )
