"""The certificate of both doors, and whether a door may be open without one.

The files are looked at again and again, and compared by what is in them: some tools replace a link, others keep the
times. A new certificate counts for new connections; those that run keep the one that they began with.
"""

import asyncio
import logging
import ssl
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509

from gateway.settings import GatewaySettings
from services.chassis.background import BackgroundLoop
from services.chassis.clock import now
from services.chassis.errors import ModelryError
from services.chassis.listening import split_address
from services.chassis.readiness import Lack, LackLog

REFUSED, EXPIRED = "new_certificate", "certificate"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pair:
    """A certificate with its chain and its key (PEM), known to belong together."""

    chain: bytes
    key: bytes
    context: ssl.SSLContext
    expire_time: datetime

    @classmethod
    def read(cls, chain: Path, key: Path) -> "_Pair":
        """Raises: ModelryError: no pair can be read there now."""
        try:
            read = chain.read_bytes(), key.read_bytes()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 and later
            context.set_alpn_protocols(["http/1.1"])
            context.load_cert_chain(chain, key, password=_ask_nobody)
            expire_time = x509.load_pem_x509_certificate(read[0]).not_valid_after_utc
            again = chain.read_bytes(), key.read_bytes()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ModelryError(f"{chain} and {key} are no certificate with its key: {error}.") from error
        if again != read:
            raise ModelryError(f"{chain} and {key} are being written.")
        return cls(*read, context, expire_time)

    def for_grpc(self) -> grpc.ServerCertificateConfiguration:
        """Return the same for gRPC."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)])


def _ask_nobody() -> str:
    raise ValueError("the key has a password")


class Certificate:
    """What both doors show to new connections: the newest pair that could be read."""

    def __init__(self, chain: Path, key: Path, check_seconds: float) -> None:
        """Read it. Raises: ModelryError: it cannot be used."""
        self._chain, self._key = chain, key
        self._pair = _Pair.read(chain, key)
        self._fresh: deque[grpc.ServerCertificateConfiguration] = deque(maxlen=1)
        self._lacks = LackLog()
        self._loop = BackgroundLoop("certificate", self._look, check_seconds)
        self.http = self._pair.context  # the server holds the first one, which passes each connection on
        self.http.sni_callback = self._choose
        fetch: Any = self._fetch  # may return None, whatever the stubs say
        self.grpc: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(self._pair.for_grpc(), fetch)

    async def start(self) -> None:
        """Begin to look at the files."""
        await self._loop.start()

    async def stop(self) -> None:
        """Look no more."""
        await self._loop.stop()

    def degraded(self) -> list[Lack]:
        """Return why the newest files are not used, and since when the certificate in use has been too old."""
        expire_time = self._pair.expire_time
        old = [Lack(EXPIRED, "The certificate of the doors has expired.", expire_time)] if expire_time < now() else []
        return [*self._lacks.all(), *old]

    async def _look(self) -> None:
        try:
            pair = await asyncio.to_thread(_Pair.read, self._chain, self._key)
            changed = (pair.chain, pair.key) != (self._pair.chain, self._pair.key)
            if changed and pair.expire_time < now():
                raise ModelryError(f"{self._chain} expired at {pair.expire_time.isoformat()}.")
        except ModelryError as error:
            message = f"The certificate of before stays in use: {error.message}"
            if self._lacks.note(REFUSED, message):
                _log.error(message)
            return
        self._lacks.clear(REFUSED)
        if changed:
            self._pair = pair
            self._fresh.append(pair.for_grpc())
            _log.info("new connections get the certificate that expires at %s", pair.expire_time.isoformat())

    def _choose(self, connection: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        """Give a new connection the newest pair; called with or without a server's name."""
        connection.context = self._pair.context

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what gRPC does not have yet; it asks before each handshake, in a thread of its own."""
        try:
            return self._fresh.pop()
        except IndexError:
            return None


def certificate_of(settings: GatewaySettings) -> Certificate | None:
    """Return the doors' certificate, if they have one.

    Raises: ModelryError: it cannot be used, is only half there, or is lacking where keys would cross a network.
    """
    chain, key = settings.tls_certificate, settings.tls_key
    if bool(chain) != bool(key):
        raise ModelryError("tls_certificate and tls_key belong together: set both settings of the gateway, or none.")
    if chain:
        return Certificate(settings.home / chain, settings.home / key, settings.tls_check_seconds)
    exposed = [listen for listen in (settings.http_listen, settings.grpc_listen) if not _is_loopback(listen)]
    if exposed and not settings.allow_plaintext:
        raise ModelryError(
            f"Keys would cross the network in clear at {' and '.join(exposed)}. Set MODELRY_GATEWAY_TLS_CERTIFICATE "
            "and MODELRY_GATEWAY_TLS_KEY; or MODELRY_GATEWAY_ALLOW_PLAINTEXT=true where something in front ends TLS "
            "(in modelry.toml: tls_certificate, tls_key, allow_plaintext in [gateway])."
        )
    return None


def _is_loopback(listen: str) -> bool:
    host, _ = split_address(listen)
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"  # any other name may mean any address, and no name means all of them
