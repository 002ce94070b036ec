"""Which addresses are reached without a proxy: those of this machine, whatever `http_proxy` says."""

import ipaddress
import ssl
import urllib.request
from typing import Any
from urllib.parse import urlsplit


def is_loopback(url: str) -> bool:
    """Return whether a URL names this machine itself."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_url(
    request: urllib.request.Request, timeout: float, *, direct: bool, context: ssl.SSLContext | None = None
) -> Any:
    """Return the answer of a request; by the proxy of the environment unless it is direct. Raises as urllib does."""
    handlers = urllib.request.ProxyHandler({} if direct else None), urllib.request.HTTPSHandler(context=context)
    return urllib.request.build_opener(*handlers).open(request, timeout=timeout)


def channel_options(*, direct: bool) -> list[tuple[str, int]]:
    """Return the options of a gRPC channel: none, or that it takes no proxy."""
    return [("grpc.enable_http_proxy", 0)] if direct else []
