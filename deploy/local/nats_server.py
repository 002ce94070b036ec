"""The embedded NATS server: its users and what each may do, its configuration and command line."""

import json
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from deploy.local.files import LOOPBACK, write_private
from services.chassis.bus import callout_config

SERVICES, GATEWAY, OBSERVER = "services", "gateway", "observer"
# Workers are no fixed users: services.chassis.bus.worker_auth lets each in for its own job.
USERS = (SERVICES, GATEWAY, OBSERVER)
# The streams keep up to 10 GB of events and 2 GB of work; without a number the server reserves by the disk it finds.
STORE_BYTES = 32 << 30

# A worker waits this long when nobody answers for it, and tries again. Clients themselves give up after 2 seconds.
AUTHORIZATION_SECONDS = 1

# The buckets that the gateway reads, and the requests by which a bucket is read; none of them writes.
BUCKETS = ("modelry_keys", "modelry_routes")
READ_BUCKET = (
    "$JS.API.STREAM.INFO.{stream}",
    "$JS.API.STREAM.MSG.GET.{stream}",
    "$JS.API.DIRECT.GET.{stream}",
    "$JS.API.DIRECT.GET.{stream}.>",
    "$JS.API.CONSUMER.CREATE.{stream}",
    "$JS.API.CONSUMER.CREATE.{stream}.>",
    "$JS.API.CONSUMER.INFO.{stream}.*",
    "$JS.API.CONSUMER.DELETE.{stream}.*",
    "$JS.ACK.{stream}.>",
    "$JS.FC.{stream}.>",
)
READ_KV = tuple(subject.format(stream=f"KV_{bucket}") for bucket in BUCKETS for subject in READ_BUCKET)


@dataclass(frozen=True)
class NatsServer:
    """One server: where it listens and stores, and the secrets of its users (user -> password).

    `token_secret` is the installation's: from it comes the key by which services answer for workers.
    """

    folder: Path
    port: int
    monitor_port: int
    passwords: dict[str, str] = field(repr=False)
    token_secret: str = field(repr=False)
    host: str = LOOPBACK
    name: str = "modelry"

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://{self.host}:{self.port}"

    @property
    def health_url(self) -> str:
        """Return the URL that answers 200 once JetStream is there; loopback only."""
        return f"http://{LOOPBACK}:{self.monitor_port}/healthz"

    def write_config(self, path: Path) -> None:
        """Write the configuration; it holds secrets: 0600."""
        # The server's language has no `\uXXXX`: characters stand as they are (homes have no control ones).
        write_private(path, json.dumps(self.config(), indent=2, ensure_ascii=False) + "\n")

    def command(self, config: Path) -> list[str]:
        """Return the command that serves a written configuration."""
        return [str(Path(sysconfig.get_path("scripts")) / "nats-server"), "-c", str(config)]

    def config(self) -> dict[str, Any]:
        """Return the configuration as nats-server reads it (JSON is a subset of its language)."""
        users = [self.user(name) for name in USERS]
        callout = callout_config(SecretStr(self.token_secret), list(USERS))
        return {
            "server_name": self.name,
            "listen": f"{self.host}:{self.port}",
            "http": f"{LOOPBACK}:{self.monitor_port}",
            "max_payload": 1 << 20,
            "jetstream": {
                "store_dir": str(self.folder),
                "max_file_store": STORE_BYTES,
                "max_memory_store": 64 << 20,
                "sync_interval": "1s",
            },
            "authorization": {"users": users, "auth_callout": callout, "timeout": AUTHORIZATION_SECONDS},
        }

    def user(self, name: str) -> dict[str, Any]:
        """Return a user's entry; what is not allowed is refused."""
        entry: dict[str, Any] = {"user": name, "password": self.passwords[name]}
        if name != SERVICES:
            entry["permissions"] = PERMISSIONS[name]
        return entry


PERMISSIONS: dict[str, dict[str, Any]] = {
    GATEWAY: {
        "publish": {"allow": ["$JS.API.INFO", *READ_KV, "modelry.gateway.>"]},
        "subscribe": {"allow": ["_INBOX.>"]},
    },
    OBSERVER: {
        "publish": {"deny": [">"]},
        "subscribe": {"allow": ["modelry.events.>"]},
    },
}
