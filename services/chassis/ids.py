"""Identifiers of resources: a prefix that tells the kind, and 26 characters that sort by time of making."""

import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: no i, l, o, u
_RANDOM_BITS = 80
_LENGTH = 26

_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """Return a new identifier, for example `new_id("ftjob-")`.

    48 bits of milliseconds and 80 random bits (a ULID). Within a process each is greater than the one before, so that
    a page of things made in the same millisecond keeps its order. Ids never order events: versions do.
    """
    global _last
    fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    with _lock:
        _last = number = max(fresh, _last + 1)
    return prefix + "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))
