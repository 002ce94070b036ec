"""The settings that access has beside those of every process."""

from __future__ import annotations

from pydantic import Field, SecretStr

from services.chassis.settings import Settings


class AccessSettings(Settings):
    """Settings of access."""

    bootstrap_key: SecretStr = SecretStr("")
    """The first admin key, where there is none yet; otherwise a random one is made."""
    currency: str = Field("USD", pattern="^[A-Z]{3}$")
    http_address: str = ""
    """Addresses that `serverInfo` shows; those of the embedded stack unless they are set."""
    grpc_address: str = ""
    nats_address: str = ""
    propagation_seconds: float = Field(3, ge=0)
    """How long a change of a key waits for the gateways' store before it answers `propagated: false`."""
    sweep_seconds: float = Field(10, gt=0)
    """How often ended keys, fallen reservations and missing buckets are looked for."""
