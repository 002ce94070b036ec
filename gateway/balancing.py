"""Which replica gets a request: a pure function of the replicas, their load and the request's prefix."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from services.clients.records import ReplicaRecord

AFFINITY_SLACK = 2
"""How many requests more than the least loaded a replica may have and still be preferred for its warm prefix."""
PREFIX_CHARACTERS = 512


def choose(
    replicas: Sequence[ReplicaRecord], in_flight: Mapping[str, int], prefix: str, tried: Collection[str] = ()
) -> ReplicaRecord | None:
    """Return the replica for a request, or None when all were tried.

    The prefix picks a favourite by rendezvous hashing, so that equal beginnings meet the same prefix cache and a
    change of the set moves few of them; the favourite is left when it has over AFFINITY_SLACK more requests in
    flight than the least loaded.
    """
    open_ones = [replica for replica in replicas if replica.id not in tried]
    if not open_ones:
        return None
    if len(open_ones) == 1:
        return open_ones[0]
    least = min(in_flight.get(replica.id, 0) for replica in open_ones)
    near = [
        replica for replica in open_ones if in_flight.get(replica.id, 0) <= least + (AFFINITY_SLACK if prefix else 0)
    ]
    return max(near, key=lambda replica: _weight(prefix, replica.id) if prefix else replica.id)


def _weight(prefix: str, replica_id: str) -> bytes:
    return hashlib.blake2b(f"{prefix}\0{replica_id}".encode("utf-8", "replace"), digest_size=8).digest()


def prefix_of(body: Mapping[str, Any]) -> str:
    """Return the beginning of a request that a prefix cache can share: its first message, or the prompt."""
    messages = body.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[0], dict):
        content = messages[0].get("content")
        return content[:PREFIX_CHARACTERS] if isinstance(content, str) else ""
    prompt = body.get("prompt")
    return prompt[:PREFIX_CHARACTERS] if isinstance(prompt, str) else ""
