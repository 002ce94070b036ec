"""Settings of the gateway: `MODELRY_GATEWAY_<NAME>`, and those that every process has."""

from __future__ import annotations

from pydantic import Field

from services.chassis.settings import Settings


class GatewaySettings(Settings):
    """Where the doors are; the state folder is HOME/gateway."""

    http_listen: str = "127.0.0.1:8080"
    grpc_listen: str = "127.0.0.1:0"
    nats_user: str = "gateway"
    drain_seconds: float = Field(20, ge=0)
    gateway_id: str = "gateway"
