"""Which adapters an engine can hold beside its base, and what a merged one is called. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Any

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The largest ranks that the engine can be started for."""

_MERGE_FORMAT = 1


def engine_rank(rank: int) -> int | None:
    """Return the smallest rank that the engine can be started for and that covers this one; None: it is too large."""
    return next((allowed for allowed in RANKS if rank <= allowed), None)


def merge_only(config: Mapping[str, Any]) -> str:
    """Say why an adapter with this PEFT configuration can be used merged only; empty if it can be attached."""
    if config.get("use_dora"):
        return "it is a DoRA adapter"
    if config.get("modules_to_save"):
        return "it holds whole modules"
    if config.get("bias") not in (None, "none"):
        return "it trains biases"
    return ""


def attachable_rank(config: Mapping[str, Any]) -> int | None:
    """Return the rank that the engine must be started for to attach this adapter; None: it cannot be attached."""
    if merge_only(config):
        return None
    return engine_rank(max([int(config["r"]), *(config.get("rank_pattern") or {}).values()]))


def merged_name(base_digest: str, adapter_digest: str) -> str:
    """Return the folder of a merged model in the node's cache: the digest of what it is made of.

    Whoever needs the merged model, to evaluate it or to serve it, takes the one of this name.
    """
    content = f"merge/{_MERGE_FORMAT}/{base_digest}/{adapter_digest}"
    return f"merged-{hashlib.sha256(content.encode()).hexdigest()}"
