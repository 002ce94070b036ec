"""Certificates for tests: an authority of their own, and what it signs for this machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


class Authority:
    """Signs certificates for `localhost` and 127.0.0.1; `file` is what a client trusts it by."""

    def __init__(self, folder: Path) -> None:
        self._key, self._name = ec.generate_private_key(ec.SECP256R1()), _name("authority of a test")
        made = self._builder(self._name, self._key, DAY).add_extension(x509.BasicConstraints(True, None), True)
        self.file = folder / "authority.pem"
        self.file.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, valid: timedelta = DAY) -> tuple[bytes, bytes, int]:
        """Return a new certificate and its key, in PEM, and the serial number that tells it from others."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        made = self._builder(_name("localhost"), key, valid).add_extension(names, False)
        signed = made.sign(self._key, hashes.SHA256())
        plain = serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        return signed.public_bytes(serialization.Encoding.PEM), pem, signed.serial_number

    @staticmethod
    def lock(key: bytes) -> bytes:
        """Return a key that asks for a password."""
        plain = serialization.load_pem_private_key(key, None)
        locked = serialization.BestAvailableEncryption(b"of a test")
        return plain.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, valid: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            self._name, subject, key.public_key(), x509.random_serial_number(), now - 2 * DAY, now + valid
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
