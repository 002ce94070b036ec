"""What the installation is: its version, and the addresses of its doors."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.access.settings import AccessSettings


@dataclass(frozen=True)
class ServerFacts:
    """Facts that `serverInfo` shows.

    Addresses that are not set are those that the supervisor of an embedded installation notes in its state file.
    """

    version: str
    currency: str
    configured: Mapping[str, str]
    state_file: Path

    @classmethod
    def of_settings(cls, settings: AccessSettings) -> ServerFacts:
        """Return the facts of an installation."""
        configured = {"http": settings.http_address, "grpc": settings.grpc_address, "nats": settings.nats_address}
        try:
            version = importlib.metadata.version("modelry")
        except importlib.metadata.PackageNotFoundError:
            version = "0"
        return cls(version, settings.currency, configured, settings.home / "state.json")

    def addresses(self) -> dict[str, str]:
        """Return the addresses by door: `http`, `grpc`, `nats`."""
        try:
            noted = json.loads(self.state_file.read_text("utf-8")).get("addresses", {})
        except (OSError, ValueError):
            noted = {}
        return {**noted, **{door: address for door, address in self.configured.items() if address}}
