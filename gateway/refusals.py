"""What an inference call is refused with when nothing can answer it."""

from __future__ import annotations

import time

from services.chassis.errors import NotFound, Unavailable
from services.clients.records import RouteRecord


class ModelNotFoundHere(NotFound):
    """Nothing that the key can call has this name."""

    @classmethod
    def of(cls, name: str) -> ModelNotFoundHere:  # type: ignore[override]
        """Return the sentence, for an `ft:` name with the command that would host it."""
        hint = "GET /v1/models lists what can be called."
        if name.startswith("ft:"):
            hint = f"Nothing hosts it; `modelry deployments create --model {name}` would."
        return cls(
            f"The model {name!r} does not exist or you do not have access to it. {hint}",
            reason="MODEL_NOT_FOUND",
            metadata={"param": "model"},
        )


class NoReplica(Unavailable):
    """No replica of a deployment answers now."""

    default_reason = "NO_REPLICA"

    @classmethod
    def of(cls, route: RouteRecord, message: str) -> NoReplica:
        """Return the sentence, with when the next replica may be ready."""
        return cls(message, retry_seconds=route.seconds_to_start(time.time()))


class ReplicaDied(Unavailable):
    """A replica died while it worked on a call. No program should send that again by itself: it may be the cause."""

    default_reason = "REPLICA_DIED"

    @classmethod
    def of(cls, name: str) -> ReplicaDied:
        """Return the sentence."""
        words = f"A replica of {name!r} died while it worked on this call, perhaps of it; no other one was asked."
        return cls(words, retry_seconds=0)
