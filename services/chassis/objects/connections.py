"""Connections of the S3 library: whom they trust, where a foreign store's may lead, and that its answers have bounds.

The library has no setting for these, so its session and its connection classes are extended here.
"""

import http.client
import io
import socket
import ssl
from typing import Any

from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool
from botocore.httpsession import URLLib3Session
from cryptography import x509
from urllib3.exceptions import NameResolutionError
from urllib3.util.ssl_match_hostname import CertificateError

from services.chassis.objects.access import StoreAccess
from services.chassis.objects.addresses import ForeignRules
from services.chassis.objects.pace import ANSWER_BYTES, BrokenRule, PacedSocket, seconds_left, whole_answer

_LONGEST_NAME = 200


class StoreSession(URLLib3Session):
    """The library's session for one store."""

    def __init__(self, access: StoreAccess, **options: Any) -> None:
        """Args: options: what the library makes its own session with."""
        self._ca_file = access.ca_file
        super().__init__(**options)
        self._pool_classes_by_scheme = _pool_classes(access.foreign)
        manager: Any = self._manager  # type: ignore[attr-defined]
        manager.pool_classes_by_scheme = self._pool_classes_by_scheme

    def _get_ssl_context(self) -> ssl.SSLContext:
        context: ssl.SSLContext = super()._get_ssl_context()  # type: ignore[misc]
        if self._ca_file:
            context.load_verify_locations(self._ca_file)
        return context

    def send(self, request: Any) -> Any:
        """Send a request; a foreign answer that is read whole has a bound."""
        token = whole_answer.set(not request.stream_output)
        try:
            return super().send(request)
        finally:
            whole_answer.reset(token)


def _pool_classes(rules: ForeignRules | None) -> dict[str, type[Any]]:
    """Return the classes of pools, by scheme, whose connections follow the rules."""

    class Plain(_Guarded, AWSHTTPConnection):  # type: ignore[misc]
        foreign = rules

    class Encrypted(_Named, _Guarded, AWSHTTPSConnection):  # type: ignore[misc]
        foreign = rules

    class PlainPool(AWSHTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(AWSHTTPSConnectionPool):
        ConnectionCls = Encrypted

    for one in (Plain, Encrypted):
        one.response_class = http.client.HTTPResponse if rules is None else _Answer  # type: ignore[assignment]
    return {"http": PlainPool, "https": EncryptedPool}


class _Answer(http.client.HTTPResponse):
    """An answer of a foreign store."""

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self._paced = PacedSocket(sock)
        self.fp = io.BufferedReader(self._paced)
        self._whole = whole_answer.get()

    def begin(self) -> None:
        """Read the head, which has a bound of its own; a stream has none."""
        super().begin()
        self._paced.limit_bytes = ANSWER_BYTES if self._whole or self.status >= 300 else None


class _Guarded:
    """A connection that leads only where the store of a credential may be, and not after its deadline.

    A proxy chooses the address itself, and the library is told of its host alone.
    """

    foreign: ForeignRules | None
    proxy: Any
    port: int
    timeout: Any
    _dns_host: str

    def _new_conn(self) -> socket.socket:
        if self.foreign is None or self.proxy is not None:
            return super()._new_conn()  # type: ignore[misc, no-any-return]
        host, patience = self._dns_host, self.timeout
        addresses = self._addresses(host)
        try:
            for number, address in enumerate(addresses):
                self._dns_host, self.timeout = address, seconds_left(patience)
                try:
                    return super()._new_conn()  # type: ignore[misc, no-any-return]
                except Exception:
                    if number + 1 == len(addresses):
                        raise
            raise AssertionError("a host has an address")
        finally:
            self._dns_host, self.timeout = host, patience

    def _addresses(self, host: str) -> list[str]:
        """Return the addresses of a host, all of which were judged. Raises: BrokenRule."""
        assert self.foreign is not None
        seconds_left()
        try:
            found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(host, self, error) from error  # type: ignore[arg-type]
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        for address in addresses:
            if refusal := self.foreign.refusal(host, address, self.port):
                raise BrokenRule("ENDPOINT_NOT_ALLOWED", f"is at {refusal}, which only `local_stores` allows")
        return addresses


class _Named:
    """A connection whose error names the certificate that is not trusted."""

    proxy: Any
    host: str

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
        except (ssl.SSLCertVerificationError, CertificateError) as error:
            why = getattr(error, "verify_message", "") or "it is for another host"
            raise BrokenRule(
                "STORE_CERTIFICATE", f"has a certificate{self._shown()} that is not trusted: {why}"
            ) from error

    def _shown(self) -> str:
        """Return whose certificate the store shows and who signed it, as far as a second look tells."""
        if self.proxy is not None:
            return ""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with context.wrap_socket(self._new_conn(), server_hostname=self.host) as connection:  # type: ignore[attr-defined]
                content = connection.getpeercert(binary_form=True) or b""
            shown = x509.load_der_x509_certificate(content)
            return f" of {_name(shown.subject)}, signed by {_name(shown.issuer)},"
        except (OSError, ValueError):
            return ""


def _name(name: x509.Name) -> str:
    text = name.rfc4514_string()[:_LONGEST_NAME]
    return repr("".join(char if char.isprintable() else "?" for char in text))
