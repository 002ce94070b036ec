"""Which methods are called again when nothing answers, as the protos say.

UNAVAILABLE also says that an answer was lost after the work was committed. So a method is repeated only if its
`idempotency_level` says that a repeat does no more than the first call.
"""

import json
from collections.abc import Iterable

from google.protobuf.descriptor import FileDescriptor

_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def repeatable_methods(file: FileDescriptor) -> list[str]:
    """Return the gRPC paths of a proto file's methods that may be repeated."""
    return [
        f"/{service.full_name}/{method.name}"
        for service in file.services_by_name.values()
        for method in service.methods
        if method.GetOptions().idempotency_level
    ]


def service_config(repeated: Iterable[str]) -> str:
    """Return gRPC's service config that repeats calls of these paths and of no other."""
    names = [dict(zip(("service", "method"), path[1:].split("/"), strict=True)) for path in repeated]
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": _POLICY}] if names else []})
