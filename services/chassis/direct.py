"""Connections that never take a proxy: to this machine, and between an installation's own parts.

Companies set `http_proxy` on every machine, and libraries then send even what is for 127.0.0.1 to it. Foreign stores
and hubs are reached through it, as `no_proxy` says (`services.chassis.launch.surroundings`).
"""

import ipaddress
import ssl
import urllib.request
from typing import Any
from urllib.parse import urlsplit

GRPC_DIRECT = ("grpc.enable_http_proxy", 0)
"""The option of every channel to a process of ours."""


def open_direct(url: str, timeout: float, context: ssl.SSLContext | None = None) -> Any:
    """Return the answer of an address of ours, as `urllib.request.urlopen` does. Raises: what that raises."""
    handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    return urllib.request.build_opener(*handlers).open(url, timeout=timeout)


def is_loopback(url: str) -> bool:
    """Return whether a URL names this machine itself."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
