"""The settings that access has beside those of every process."""

from pydantic import Field, SecretStr

from services.clients.settings import ServiceAddresses


class AccessSettings(ServiceAddresses):
    """Settings of access."""

    bootstrap_key: SecretStr = Field(
        SecretStr(""), description="the first admin key, where there is none yet; empty, or used before: a random one"
    )
    currency: str = Field("USD", pattern="^[A-Z]{3}$", description="currency of all prices, as ISO 4217 names it")
    http_address: str = Field("", description="HTTP address that `serverInfo` shows; empty is the embedded stack's")
    grpc_address: str = Field("", description="gRPC address that `serverInfo` shows; empty is the embedded stack's")
    nats_address: str = Field("", description="NATS address that `serverInfo` shows; empty is the embedded stack's")
    propagation_seconds: float = Field(
        3, ge=0, description="longest wait for the gateways' store before a changed key answers `propagated: false`"
    )
    sweep_seconds: float = Field(
        10, gt=0, description="how often ended keys, forgotten reservations and missing buckets are looked for"
    )
