"""Where a caller is: the address of its peer, or the one that a trusted proxy forwards; read the same at both doors."""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote

from services.chassis.errors import Invalid, OverLimit, Unavailable
from services.clients.records import network_of

FORWARDED = "X-Forwarded-For"
LOCAL = "127.0.0.1"
"""Stands for a peer without an address: a socket of this machine."""


def address_of(text: str) -> str:
    """Return an address in its one spelling, without zone; an IPv4 address in IPv6 dress is one of IPv4.

    Raises: ValueError: it is none.
    """
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def address_of_socket(peername: object) -> str:
    """Return the address in what a socket says of its peer."""
    return address_of(str(peername[0])) if isinstance(peername, tuple) else LOCAL


@lru_cache(4096)
def address_of_grpc(peer: str) -> str:
    """Return the address in `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    kind, _, rest = peer.partition(":")
    return _without_port(unquote(rest)) if kind in ("ipv4", "ipv6") else LOCAL


def _without_port(text: str) -> str:
    """Return the address in `1.2.3.4`, `1.2.3.4:5000`, `::1` or `[::1]:5000`. Raises: ValueError."""
    if text.startswith("["):
        text = text[1 : text.find("]")]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return address_of(text)


class TrustedProxies:
    """The proxies in front of the gateway: what they forward counts, what anybody else says of itself does not."""

    def __init__(self, networks: str = "") -> None:
        """`networks`: addresses and networks, separated by commas. Raises: ValueError."""
        texts = [text.strip() for text in networks.split(",") if text.strip()]
        self._networks = [network_of(text) for text in texts]

    def trust(self, address: str) -> bool:
        """Return whether an address is one of theirs."""
        return bool(self._networks) and any(ip_address(address) in network for network in self._networks)

    def client_of(self, peer: str, forwarded: Iterable[str]) -> str:
        """Return the address of whoever called the first of a chain of trusted proxies.

        Args: forwarded: the `X-Forwarded-For` headers as they came; each proxy has added its caller at the end.
        Raises: Invalid: a trusted proxy forwards what is no address.
        """
        address = peer
        for text in reversed([text for header in forwarded for text in header.split(",")]):
            if not self.trust(address):
                break
            try:
                address = _without_port(text.strip())
            except ValueError as error:
                raise Invalid(
                    f"{FORWARDED} holds {text.strip()[:50]!r}, which is no address.", field=FORWARDED
                ) from error
        return address


class Places:
    """How many connections there are, in all and by address."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most, self._most_per_address = most, most_per_address
        self._open, self._held = 0, Counter[str]()

    def open(self) -> None:
        """Count a connection. Raises: Unavailable: there are too many."""
        if self._open >= self._most:
            raise Unavailable("There are too many connections now; try again.", reason="TOO_MANY_CONNECTIONS")
        self._open += 1

    def close(self) -> None:
        """Count one less."""
        self._open -= 1

    def take(self, address: str) -> None:
        """Count a connection of an address. Raises: OverLimit: it holds too many."""
        place = _place_of(address)
        if self._held[place] >= self._most_per_address:
            message = f"Your address holds {self._most_per_address} connections; close some, or use them again."
            raise OverLimit(message, reason="TOO_MANY_CONNECTIONS")
        self._held[place] += 1

    def give(self, address: str) -> None:
        """Count one less of an address."""
        place = _place_of(address)
        self._held[place] -= 1
        if not self._held[place]:
            del self._held[place]  # or there would be one for each address that ever called


@lru_cache(4096)
def _place_of(address: str) -> str:
    """Return what is counted as one: an address, and of IPv6 the network of 64 bits that one customer gets."""
    return str(IPv6Network((address, 64), strict=False)) if ":" in address else address
