"""What a deployment becomes: mode, engine options, memory; and why something cannot be."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.chassis.engines import RANKS, engine_rank, merge_only
from services.chassis.errors import Invalid
from services.serving.domain.entities import Adapter, Deployment, Engine, Files, Mode, ModelFacts

GIB = 1 << 30
RUNTIME_BYTES = int(2.1 * GIB)
"""What the processes of one engine need on a CPU before any weights."""

ENGINE_SEQUENCES = 256
"""How many an engine works on at a time unless it is told: what it is started with on a CPU, the least that it chooses
by itself on a GPU."""

ATTACHED_SLOWDOWN = (
    "an adapter beside its base makes 2.4 to 3.1 times fewer tokens per second than a merged one on a CPU"
)


def covering_rank(rank: int) -> int:
    """Return the smallest rank that the engine can be started for and that covers this one. Raises: Invalid."""
    allowed = engine_rank(rank)
    if allowed is None:
        message = f"The adapter's rank is {rank}; the engine takes at most {RANKS[-1]}."
        raise Invalid(message, field="deployment.model")
    return allowed


def largest_rank(deployment: Deployment, limit: int) -> int:
    """Return the rank that the engine is started for: its own adapter's, or the largest that may be attached."""
    own = deployment.facts.lora_rank if deployment.effective_mode is Mode.ATTACHED else 0
    return covering_rank(max(limit, own))


def choose_mode(asked: Mode, adapter: bool, accepts: bool | None) -> tuple[Mode, bool]:
    """Return the mode in force and whether other adapters are accepted.

    An adapter that has its replicas for itself is merged (the base's speed), one that shares them is attached.
    Raises: Invalid.
    """
    if not adapter:
        if asked in (Mode.MERGED, Mode.ATTACHED):
            raise Invalid("The adapter_mode is for adapters; this is a whole model.", field="deployment.adapter_mode")
        return Mode.NONE, True if accepts is None else accepts
    shares = bool(accepts)
    if asked is Mode.MERGED and shares:
        raise Invalid(
            "A merged adapter is no base any more: it cannot accept other adapters. Use ATTACHED.",
            field="deployment.accepts_adapters",
        )
    if asked is Mode.AUTO:
        return (Mode.ATTACHED if shares else Mode.MERGED), shares
    return asked, shares


def choose_engine(asked: Engine, facts: ModelFacts, longest: int) -> Engine:
    """Return the options in force. Raises: Invalid."""
    own = facts.context_length or longest
    if asked.max_model_length > own:
        raise Invalid(
            f"The model's context is {own} tokens; max_model_length is {asked.max_model_length}.",
            field="deployment.engine.max_model_length",
        )
    length = asked.max_model_length or min(own, longest)
    return replace(asked, max_model_length=length, kv_cache_gib=asked.kv_cache_gib or 1.0)


def sequences_of(engine: Engine) -> int:
    """Return how many sequences a replica works on at a time, at least."""
    return engine.max_sequences or ENGINE_SEQUENCES


@dataclass(frozen=True)
class Term:
    """One term of a replica's memory."""

    what: str
    size_bytes: int

    @property
    def text(self) -> str:
        """The term as people read it."""
        return f"{self.what}: {self.size_bytes / GIB:.2f} GiB"


def memory_terms(facts: ModelFacts, engine: Engine, attaches: bool, rank: int, loras: int) -> list[Term]:
    """Return a replica's memory, term by term. `rank` and `loras` size the slots for adapters."""
    shape = facts.shape
    size = int(shape.get("bytes_per_value", 2)) or 2
    weights = facts.parameter_count * size or facts.size_bytes
    hidden = int(shape.get("hidden_size", 0))
    layers = int(shape.get("layers", 0))
    token = 2 * layers * int(shape.get("kv_heads", 0)) * int(shape.get("head_dim", 0)) * size
    kv = int(engine.kv_cache_gib * GIB)
    fits = f", room for {kv // token} tokens" if token else ""
    terms = [
        Term("weights", weights),
        Term(f"keys and values{fits}", kv),
        Term("activations", 4 * min(engine.max_model_length, 2048) * max(hidden, 64) * 4),
    ]
    if attaches:
        # Seven projections of a layer, in and out, each about as wide as the hidden size.
        slot = 7 * 2 * layers * max(hidden, 64) * covering_rank(rank) * size
        terms.append(Term(f"slots for {loras} adapters of rank {covering_rank(rank)}", slot * loras))
    return [*terms, Term("processes", RUNTIME_BYTES)]


def memory_mb(terms: Sequence[Term]) -> int:
    """Return the sum of all terms, in MiB."""
    return math.ceil(sum(term.size_bytes for term in terms) / (1 << 20))


def cores_of(asked: int, cores: int, replicas: int) -> int:
    """Return the cores of one replica: as asked, or the machine's divided by the replicas, at least 1."""
    return asked or max(1, cores // max(1, replicas))


def adapter_of(deployment: Deployment, facts: ModelFacts, config: Mapping[str, Any], limit: int, most: int) -> Adapter:
    """Return a version as an adapter of a deployment. One that can never be attached has a cause and no engine name."""
    assert facts.own is not None, "an adapter that is ready has files"
    own = facts.own.version_id == deployment.model_version_id
    cause = ""
    if why := merge_only(config):
        cause = f"It can be served merged only ({why}): deploy it with adapter_mode MERGED."
    elif not own and facts.lora_rank > limit:
        cause = f"Its rank is {facts.lora_rank}, and the replicas take at most {limit}."
    elif not own and len(deployment.adapters) >= most:
        cause = f"The deployment holds {most} adapters already."
    name = deployment.name if own else engine_name(deployment, facts.fine_tuned_name, facts.own)
    return Adapter(
        model_version_id=facts.own.version_id,
        fine_tuned_name=facts.fine_tuned_name,
        engine_name="" if cause else name,
        files=facts.own,
        rank=facts.lora_rank,
        own=own,
        cause=cause,
    )


def engine_name(deployment: Deployment, fine_tuned_name: str, files: Files) -> str:
    """Return the engine's name of an adapter: its call name, with a digest where that once meant other weights."""
    for known in deployment.adapters:
        if known.engine_name == fine_tuned_name and known.files.digest != files.digest:
            return f"{fine_tuned_name}#{files.digest.removeprefix('sha256:')[:12]}"
    return fine_tuned_name
