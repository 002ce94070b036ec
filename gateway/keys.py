"""Who may call: all API keys by the hash of their secret, in memory.

Keys that were known go on working while access or NATS is away, also over a restart of the gateway (`kv_follower` keeps
them in the state folder); a revoked key is a record as well, and stays revoked: a lower version is never taken.
"""

import hashlib
import ipaddress
import time
from collections.abc import Callable, Mapping
from typing import Any

from services.chassis.errors import Denied, Unauthenticated
from services.clients.records import KeyRecord

WRONG_KEY = "Incorrect API key provided. Give a valid key as `Authorization: Bearer mk-…`."


class KeyRing:
    """All keys, by the hash of their secret."""

    def __init__(self) -> None:
        self._keys: dict[str, KeyRecord] = {}
        self.followers: list[Callable[[str], None]] = []  # each is told the id of a key that has changed

    def __len__(self) -> int:
        return len(self._keys)

    def apply(self, digest: str, record: Mapping[str, Any] | None) -> bool:
        """Take a record over unless it is older than what is known; None means that the key is no more."""
        known = self._keys.get(digest)
        if record is None:
            if known is not None:
                del self._keys[digest]
                self._tell(known.key_id)
            return known is not None
        key = KeyRecord.from_json(record)
        if known is not None and known.version >= key.version:
            return False
        self._keys[digest] = key
        self._tell(key.key_id)
        return True

    def _tell(self, key_id: str) -> None:
        for follower in self.followers:
            follower(key_id)

    def authenticate(self, secret: str, address: str) -> KeyRecord:
        """Find the key of a secret. Raises: Unauthenticated: unknown, revoked, expired. Denied: not from this address.

        The lookup is by digest: how long it takes says nothing about the secret.
        """
        key = self._keys.get(hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()) if secret else None
        if key is None or not key.active:
            raise Unauthenticated(WRONG_KEY, reason="INVALID_API_KEY")
        if key.expire_time is not None and key.expire_time <= time.time():
            raise Unauthenticated("The API key has expired. Make or rotate a key.", reason="INVALID_API_KEY")
        if key.addresses and not any(ipaddress.ip_address(address) in network for network in key.addresses):
            raise Denied("The API key may not be used from this address.", reason="ADDRESS_NOT_ALLOWED")
        return key
