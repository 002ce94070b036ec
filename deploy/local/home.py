"""The folder that holds everything of one installation: where things lie, its ports, its secrets, its lock."""

import base64
import fcntl
import os
import secrets
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.local.files import (
    LOOPBACK,
    choose_port,
    is_port_free,
    keep_secret,
    make_private_folder,
    read_json,
    write_private,
)
from services.chassis.listening import plain_host

STAGES = ("access", "dataset", "registry", "training", "evaluation", "serving")
PORTS = ("http", "grpc", "nats", "nats_monitor", "objects", *STAGES)
# Tried first on the first start; when another program has one, any free port is taken instead.
PREFERRED = {"http": 8080, "grpc": 8081, "nats": 4222}
FOLDERS = (
    "secrets",
    "data",
    "objects",
    "nats",
    "logs",
    "work",
    "cache",
    "cache/hub",
    "cache/vllm",
    "cache/models",
    "gateway",
)
STATE_FORMAT = 1


class CannotStart(Exception):
    """The stack cannot start; the text says what and what to do about it."""


class Home:
    """One installation's folder."""

    def __init__(self, path: Path) -> None:
        """Nothing is touched yet."""
        self.path = path.expanduser().absolute()
        self.state_file = self.path / "state.json"
        self.admin_key_file = self.path / "admin.key"
        self.observer_file = self.path / "nats.observer"
        self.toml_file = self.path / "modelry.toml"
        self.secrets = self.path / "secrets"
        self.logs = self.path / "logs"

    def prepare(self) -> None:
        """Make the folders; only their owner may enter them. Raises CannotStart for a name that cannot be written."""
        refuse_home(self.path)
        self._make()
        for name in FOLDERS:
            make_private_folder(self.path / name)

    def _make(self) -> None:
        try:
            make_private_folder(self.path)
        except OSError as error:
            message = f"{self.path} cannot be made ({error.strerror}): name another folder with --home."
            raise CannotStart(message) from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock as long as a supervisor serves this home. Raises CannotStart when another one does."""
        self._make()
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CannotStart(f"{self.path} is served already: `modelry status --home {self.path}`") from None
            yield
        finally:
            os.close(descriptor)

    def is_locked(self) -> bool:
        """Return whether a supervisor lives."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def state(self) -> dict[str, Any]:
        """Return what the supervisor wrote last; empty before the first start."""
        return read_json(self.state_file)

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Replace it at once. Only the holder of the lock does so."""
        import json

        write_private(self.state_file, json.dumps({"format": STATE_FORMAT, **state}, indent=2) + "\n")

    def toml(self) -> dict[str, Any]:
        """Return the settings file; empty when there is none. Raises CannotStart when it cannot be read."""
        try:
            return tomllib.loads(self.toml_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise CannotStart(f"{self.toml_file} cannot be read: {error}") from error

    def secret(self, name: str) -> str:
        """Return the installation's secret of that name, made on first use."""
        make = new_vault_key if name == "vault_key" else None
        return keep_secret(make_private_folder(self.secrets) / name, make)


def refuse_home(path: Path) -> None:
    """Raise CannotStart when the name of a home cannot stand in a configuration: no UTF-8, or control characters."""
    shown = ascii(str(path))
    if any(ord(character) < 32 or character == "\x7f" or "\ud800" <= character <= "\udfff" for character in str(path)):
        raise CannotStart(f"{shown} cannot be a home: its name has control characters or is no UTF-8; give another.")


def refuse_temporary_folder(environ: Mapping[str, str]) -> None:
    """Raise CannotStart when TMPDIR names a folder that cannot be written to: jobs would find out, hours later."""
    folder = environ.get("TMPDIR", "")
    try:
        if folder:
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        message = f"TMPDIR={folder} cannot be written to ({error.strerror}): name another folder, or unset it."
        raise CannotStart(message) from None


def door_host(text: str) -> str:
    """Return where both doors listen, without brackets. Raises CannotStart: it is no host."""
    try:
        return plain_host(text)
    except ValueError as error:
        raise CannotStart(f"--host: {error}.") from None


def new_vault_key() -> str:
    """32 random bytes as base64."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def choose_ports(kept: Mapping[str, int], wanted: Mapping[str, int | None], host: str = LOOPBACK) -> dict[str, int]:
    """Return the ports of this start: those asked for, else those of the last start, else chosen now and for ever.

    `host` is where both doors listen; everything else is on loopback.
    Raises CannotStart, with the port's name, when one that was asked for or kept is taken by another program.
    """
    ports = {name: port for name, port in kept.items() if name in PORTS}
    ports.update({name: port for name, port in wanted.items() if port is not None})
    doubled = {port for port in ports.values() if list(ports.values()).count(port) > 1}
    if doubled:
        names = " and ".join(name for name in ports if ports[name] in doubled)
        raise CannotStart(f"{names} have the same port {min(doubled)}; give each its own.")
    for name, port in ports.items():
        if not is_port_free(port, _host_of(name, host)):
            raise CannotStart(f"Port {port} ({name}) is taken by another program; free it, or {_how_else(name)}.")
    for name in PORTS:
        if name not in ports:
            preferred = PREFERRED.get(name, 0)
            free = preferred and preferred not in ports.values() and is_port_free(preferred)
            usable = free and is_port_free(preferred, _host_of(name, host))
            ports[name] = preferred if usable else choose_port([*ports.values(), *PREFERRED.values()])
    return ports


def _host_of(name: str, host: str) -> str:
    return host if name in ("http", "grpc") else LOOPBACK


def _how_else(name: str) -> str:
    flag = {"http": "--port", "grpc": "--grpc-port", "nats": "--nats-port"}.get(name)
    return f"choose another with {flag}" if flag else "remove its line from state.json to have another one chosen"
