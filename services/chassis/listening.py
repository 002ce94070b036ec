"""Addresses to listen at, `HOST:PORT`: one spelling for IPv4, IPv6 and names."""

from ipaddress import ip_address

EVERY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what is bound, and how it is reached
"""Hosts that stand for all addresses, each with the one at which this machine reaches them."""


def split_address(listen: str) -> tuple[str, int]:
    """Return host (without brackets) and port. Raises: ValueError: it is no such address; the message says the right
    spelling.
    """
    host, colon, port = listen.rpartition(":")
    plain = host.removeprefix("[").removesuffix("]")
    if ":" in plain and not (host.startswith("[") and host.endswith("]")):
        whole = _is_ipv6(listen)
        right = f"[{listen}]:PORT" if whole and not _is_ipv6(plain) else f"[{plain}]:{port}"
        raise ValueError(f"{listen!r} is no HOST:PORT: IPv6 stands in brackets, {right}")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{listen!r} is no HOST:PORT")
    if ":" in plain and not _is_ipv6(plain):
        raise ValueError(f"{host} is no IPv6 address")
    return plain, int(port)


def join_address(host: str, port: int | str) -> str:
    """Return `HOST:PORT`, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reached_host(host: str) -> str:
    """Return the host at which this machine reaches a server that listens there."""
    return EVERY.get(host, host)


def plain_host(text: str) -> str:
    """Return a host as people write it, with or without brackets, in its one spelling.

    Raises: ValueError: it is neither an address nor a name; a port does not belong to it.
    """
    bracketed = text.startswith("[") and text.endswith("]")
    host = text[1:-1] if bracketed else text
    try:
        return str(ip_address(host))
    except ValueError:
        if bracketed or not host or not all(word.replace("-", "a").isalnum() for word in host.split(".")):
            raise ValueError(f"{text!r} is no host: write an address such as 127.0.0.1 or ::1, or a name") from None
    return host


def _is_ipv6(text: str) -> bool:
    try:
        return ip_address(text.partition("%")[0]).version == 6
    except ValueError:
        return False
