"""Small safe file operations: whole or not at all, and readable by the owner alone where they hold secrets."""

import errno
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
FIRST_PORT, LAST_PORT = 15_000, 32_000


def make_private_folder(path: Path) -> Path:
    """Create a folder that only its owner may enter."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Replace a file at once; only the owner may read it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file; empty when there is no file."""
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return result


def keep_secret(path: Path, make: Any = None) -> str:
    """Return the secret in a file; made on first use (URL-safe text of 256 bits, or what `make` gives)."""
    if not path.exists():
        write_private(path, (make() if make is not None else secrets.token_urlsafe(32)) + "\n")
    return path.read_text(encoding="utf-8").strip()


def choose_port(taken: Iterable[int] = ()) -> int:
    """Return a free loopback port that is none of those already chosen.

    It lies below those that the kernel lends to outgoing connections, so that none of them takes it between two starts.
    """
    avoided = set(taken)
    while True:
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT)
        if port not in avoided and is_port_free(port):
            return port


def is_port_free(port: int, host: str = LOOPBACK) -> bool:
    """Return whether a server could listen there now (a port in TIME_WAIT counts as free).

    `host` has no brackets; one that this machine does not have counts as free: who listens there says why it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.errno not in (errno.EADDRINUSE, errno.EACCES)
    return True
