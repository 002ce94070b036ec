"""Where the store of a credential may be: anywhere but on this machine, its link, and the installation's own doors.

Whoever makes a credential chooses the address that services and workers then connect to. Without a rule they would ask
for them what only this machine can ask: the metadata of a cloud, a database on loopback, our own services.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from services.chassis.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Where clouds keep the secrets of a machine, beside the link-local 169.254.169.254 and fe80::/10.
_METADATA = (ipaddress.ip_address("100.100.100.200"), ipaddress.ip_address("fd00:ec2::254"))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class ForeignRules:
    """What holds for the stores of credentials.

    Attributes:
        allowed: what may be used although it is local: hosts, addresses or networks, each with a port or without.
        own_ports: where the installation's own processes listen.
    """

    allowed: tuple[str, ...] = ()
    own_ports: tuple[int, ...] = ()

    @classmethod
    def of_settings(cls, settings: Settings, doors: Iterable[str] = ()) -> ForeignRules:
        """Return the rules of an installation; its own store's address is always allowed.

        Args: doors: addresses at which it listens beside those in the settings.
        """
        own = urlsplit(settings.objects_endpoint)
        port = own.port or (443 if own.scheme == "https" else 80)
        store = (f"{_bracketed(own.hostname)}:{port}",) if own.hostname else ()
        return cls((*store, *settings.local_stores), _ports([*_addresses(settings), *doors]))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ForeignRules:
        """Return the rules that a program was told."""
        return cls(tuple(content["allowed"]), tuple(content["own_ports"]))

    def refusal(self, host: str, address: str, port: int) -> str:
        """Return what a host's address is that no store may have, or nothing: it may be used."""
        ip = _embedded(ipaddress.ip_address(address.partition("%")[0]))
        if any(_covers(entry, host, ip, port) for entry in self.allowed):
            return ""
        if ip.is_loopback or ip.is_unspecified:
            return "this machine itself"
        if ip.is_link_local or ip in _METADATA:
            return "an address that only this machine can ask"
        if ip.is_multicast:
            return "no address of one host"
        return "a port of this installation" if port in self.own_ports and _is_here(ip) else ""

    def literal_refusal(self, endpoint: str) -> str:
        """Return the same for an endpoint that can be judged without a resolver: by its address, or `localhost`."""
        url = urlsplit(endpoint)
        host = url.hostname or ""
        named = host.rstrip(".").lower()
        local = named == "localhost" or named.endswith(".localhost")
        try:
            return self.refusal(
                host, "127.0.0.1" if local else host, url.port or (443 if url.scheme == "https" else 80)
            )
        except ValueError:  # a name, which is judged by its addresses at each connect
            return ""


def _embedded(ip: Address) -> Address:
    """Return the IPv4 address that an IPv6 one only wraps."""
    if not isinstance(ip, ipaddress.IPv6Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _covers(entry: str, host: str, ip: Address, port: int) -> bool:
    try:
        return ip in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        url = urlsplit(f"//{entry}")
        if url.port not in (None, port):
            return False
        if url.hostname == host.lower():
            return True
        try:
            return ip == ipaddress.ip_address(url.hostname or "")
        except ValueError:
            return False


def _is_here(ip: Address) -> bool:
    """Return whether an address is one of this machine's: only those can be bound."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(ip), 0))
        except OSError:
            return False
    return True


def _addresses(settings: Settings) -> list[str]:
    """Return the addresses of the installation's processes in the settings of one."""
    values = [
        value for name, value in settings.model_dump().items() if name.endswith(("_address", "listen", "nats_url"))
    ]
    return [text for value in values for text in str(value).split(",")]


def _ports(addresses: Iterable[str]) -> tuple[int, ...]:
    found = {_port(text.strip()) for text in addresses}
    return tuple(sorted(found - {0}))


def _port(text: str) -> int:
    try:
        return urlsplit(text if "//" in text else f"//{text}").port or 0
    except ValueError:
        return 0


def _bracketed(host: str | None) -> str:
    return f"[{host}]" if host and ":" in host else host or ""
