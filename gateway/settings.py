"""Settings of the gateway: `MODELRY_GATEWAY_<NAME>`, and those that every process has."""

from pydantic import Field

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
    gateway_id: str = Field("gateway", description="name of this gateway among several, unique to it")
