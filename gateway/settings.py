"""Settings of the gateway: `MODELRY_GATEWAY_<NAME>`, and those that every process has."""

from pydantic import Field, field_validator

from gateway.addresses import TrustedProxies
from services.clients.settings import ServiceAddresses


class GatewaySettings(ServiceAddresses):
    """Where the doors are; the state folder is HOME/gateway."""

    http_listen: str = Field("127.0.0.1:8080", description="address of the HTTP server")
    grpc_listen: str = Field("127.0.0.1:0", description="address of the gRPC server; port 0 takes a free one")
    cors_origins: str = Field(
        "",
        pattern=r"^(\*|\s*[a-z][a-z0-9+.-]*://[^/,\s]+\s*(,\s*[a-z][a-z0-9+.-]*://[^/,\s]+\s*)*)?$",
        description="origins of web pages that may call from a browser (`https://app.example`), separated by commas; "
        "`*` is all, empty none",
    )
    trusted_proxies: str = Field(
        "",
        description="addresses and networks of proxies in front of the gateway (`10.0.0.0/8`), separated by commas: "
        "the caller that they forward in `X-Forwarded-For` counts as the address of a call",
    )
    most_connections: int = Field(2000, ge=1, description="connections at each door at once")
    most_connections_per_address: int = Field(
        500, ge=1, description="connections of one address at once; of a trusted proxy, calls of one caller"
    )
    most_watches: int = Field(1000, ge=1, description="watches that are open at once")
    most_watches_per_key: int = Field(32, ge=1, description="watches of one key that are open at once")
    tls_certificate: str = Field(
        "", description="certificate of both doors with its chain (PEM file, from the home); needs `tls_key`"
    )
    tls_key: str = Field("", description="its private key, without a password (PEM file, from the home)")
    tls_check_seconds: float = Field(5, gt=0, description="how often both files are looked at for a new certificate")
    allow_plaintext: bool = Field(
        False, description="listen beyond loopback without a certificate: keys cross that network in clear"
    )
    nats_user: str = Field("gateway", description="user at NATS")
    drain_seconds: float = Field(20, ge=0, description="what running requests get when the gateway stops")
    wait_seconds: float = Field(
        60, gt=0, description="longest wait of an inference call whose key has its share of every replica at work"
    )
    gateway_id: str = Field("gateway", description="name of this gateway among several, unique to it")

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        TrustedProxies(value)
        return value
