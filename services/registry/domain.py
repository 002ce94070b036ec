"""The rules of the registry: models, versions, aliases, how a version changes state, and references. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any

from services.chassis.errors import Invalid, WrongState
from services.chassis.locations import ObjectLocation, StoredFiles
from services.chassis.transitions import Failure, Transition

PRESETS = ""
"""The owner of presets: no project, seen by all."""

MAX_HISTORY = 100
ALIAS = re.compile(r"[a-z][a-z0-9-]{0,62}")
_DIGITS = re.compile(r"[1-9][0-9]{0,8}")


class State(Enum):
    """Where a version stands; READY and FAILED are terminal."""

    AVAILABLE = 1
    PREPARING = 2
    READY = 3
    FAILED = 4

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self in (State.READY, State.FAILED)


class Kind(Enum):
    """What the weights are."""

    FULL = 1
    ADAPTER = 2


class Origin(Enum):
    """Where a model comes from."""

    PRESET = 1
    PRIVATE = 2
    TUNED = 3


@dataclass(frozen=True)
class Files:
    """The files of a READY version on the installation's store."""

    stored: StoredFiles
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Model:
    """A named series of versions. `last_number` is the highest ever given out, `latest_version` the newest READY."""

    id: str
    project: str
    name: str
    title: str
    metadata: Mapping[str, str]
    origin: Origin
    create_time: datetime
    update_time: datetime
    hub_id: str = ""
    languages: tuple[str, ...] = ()
    license: str = ""
    parameter_count: int = 0
    context_length: int = 0
    last_number: int = 0
    latest_version: int = 0
    version: int = 1

    def numbered(self, now: datetime) -> Model:
        """Return it with one more version number given out."""
        return replace(self, last_number=self.last_number + 1, update_time=now, version=self.version + 1)

    def with_ready(self, ready: ModelVersion, now: datetime) -> Model:
        """Return it with a version that became READY, whose facts are now the model's."""
        return replace(
            self,
            latest_version=max(self.latest_version, ready.number),
            parameter_count=ready.parameter_count or self.parameter_count,
            context_length=ready.context_length or self.context_length,
            update_time=now,
            version=self.version + 1,
        )


PREPARE = Transition("prepare", frozenset({State.AVAILABLE}), State.PREPARING)
COMPLETE = Transition("complete", frozenset({State.PREPARING}), State.READY)
FAIL = Transition("fail", frozenset({State.PREPARING}), State.FAILED)
GIVE_UP = Transition("give up", frozenset({State.PREPARING}), State.AVAILABLE)
"""A preset that could not be prepared may be tried again: its failure is shown, and is not the end."""
TRANSITIONS = (PREPARE, COMPLETE, FAIL, GIVE_UP)


@dataclass(frozen=True)
class ModelVersion:
    """One immutable set of weights.

    Attributes:
        shape: layers, key-value heads, head size, hidden size, bytes per value; for the memory estimate.
        labels: what to show in the lineage for ids of data set versions.
        attempts: preparations that broke off in a row.
    """

    id: str
    project: str
    model_id: str
    model_name: str
    number: int
    state: State
    kind: Kind
    create_time: datetime
    source: ObjectLocation | None = None
    base_id: str = ""
    lora_rank: int = 0
    job_id: str = ""
    checkpoint_id: str = ""
    checkpoint_step: int = 0
    dataset_version_ids: tuple[str, ...] = ()
    fine_tuned_name: str = ""
    files: Files | None = None
    architecture: str = ""
    parameter_count: int = 0
    context_length: int = 0
    shape: Mapping[str, int] = field(default_factory=dict)
    chat_fingerprint: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    failure: Failure | None = None
    cause: str = ""
    finish_time: datetime | None = None
    attempts: int = 0
    version: int = 1

    @property
    def label(self) -> str:
        """As it is shown: `name@number`."""
        return f"{self.model_name}@{self.number}"

    @property
    def digest(self) -> str:
        """That of its files; empty until it is READY."""
        return self.files.digest if self.files else ""

    @property
    def size_bytes(self) -> int:
        """All its files together; 0 until it is READY."""
        return self.files.size_bytes if self.files else 0

    def apply(self, transition: Transition[State], now: datetime, cause: str, **changes: Any) -> ModelVersion:
        """Return the version in its next state. Raises: WrongState: it is in none of the transition's sources."""
        transition.check(self.state, "model version", self.label)
        return replace(
            self,
            state=transition.target,
            cause=cause,
            finish_time=now if transition.target.ended else None,
            version=self.version + 1,
            **changes,
        )


@dataclass(frozen=True)
class AliasTarget:
    """An earlier or present target of an alias."""

    model_version_id: str
    number: int
    set_time: datetime
    set_by: str


@dataclass(frozen=True)
class Alias:
    """A name that points at a version of a model; the history is newest first."""

    id: str
    project: str
    model_id: str
    alias: str
    history: tuple[AliasTarget, ...]
    create_time: datetime
    version: int = 1

    @property
    def target(self) -> AliasTarget:
        """The present one."""
        return self.history[0]

    def point(self, target: AliasTarget) -> Alias:
        """Return it pointing at another version; pointing where it points already changes nothing."""
        if self.target.model_version_id == target.model_version_id:
            return self
        return replace(self, history=(target, *self.history)[:MAX_HISTORY], version=self.version + 1)


@dataclass(frozen=True)
class Link:
    """A later user of a version, as its events told: an evaluation or a deployment."""

    model_version_id: str
    resource_id: str
    project: str
    kind: str


def fine_tuned_name(base: str, project: str, suffix: str, job_id: str, step: int | None) -> str:
    """Return `ft:<base>:<project>:<suffix>:<8 last characters of the job id>`, with `:ckpt-step-N` for a checkpoint."""
    clean = re.sub(r"[^a-z0-9-]+", "-", suffix.lower()).strip("-")[:64]
    name = f"ft:{base}:{project}:{clean}:{job_id[-8:]}"
    return name if step is None else f"{name}:ckpt-step-{step}"


def refuse_preset(model: Model, verb: str) -> None:
    """Refuse a change of a preset, which belongs to the installation. Raises: WrongState."""
    if model.origin is Origin.PRESET:
        raise WrongState(f"Cannot {verb} {model.name!r}: it is a preset.", reason="PRESET")


@dataclass(frozen=True)
class Reference:
    """What a reference names: a version by id or `ft:` name, or a model with a number, an alias or its newest.

    It is written `NAME`, `NAME@VERSION`, `NAME@ALIAS`, a hub id, `mv-…` or `ft:…`.
    """

    version_id: str = ""
    fine_tuned_name: str = ""
    model: str = ""
    number: int | None = None
    alias: str = ""


def parse_reference(text: str, field: str) -> Reference:
    """Return the reference that a caller wrote. Raises: Invalid."""
    if text.startswith("mv-"):
        return Reference(version_id=text)
    if text.startswith("ft:"):
        return Reference(fine_tuned_name=text)
    name, at, rest = text.partition("@")
    if not name or (at and not (_DIGITS.fullmatch(rest) or ALIAS.fullmatch(rest))):
        raise Invalid(
            f"{text!r} is no model reference: write NAME, NAME@VERSION, NAME@ALIAS, a hub id, mv-… or ft:….",
            field=field,
        )
    if not at or rest == "latest":
        return Reference(model=name)
    return Reference(model=name, number=int(rest)) if rest.isdigit() else Reference(model=name, alias=rest)


def version_key(text: str, field: str) -> Reference:
    """Return what a path names a version by, within a model: number, alias, id or `latest`. Raises: Invalid."""
    if text.startswith("mv-"):
        return Reference(version_id=text)
    if text == "latest":
        return Reference()
    if _DIGITS.fullmatch(text):
        return Reference(number=int(text))
    if ALIAS.fullmatch(text):
        return Reference(alias=text)
    raise Invalid(f"{text!r} is no version: write its number, an alias, its id (mv-…) or latest.", field=field)
