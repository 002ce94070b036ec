"""What the installation is: its version, and the addresses of its doors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ServerFacts:
    """Facts that `serverInfo` shows.

    Addresses that are not set are those that the supervisor of an embedded installation notes in its state file.
    """

    version: str
    currency: str
    configured: Mapping[str, str]
    state_file: Path

    def addresses(self) -> dict[str, str]:
        """Door (`http`, `grpc`, `nats`) -> address."""
        try:
            noted = json.loads(self.state_file.read_text("utf-8")).get("addresses", {})
        except (OSError, ValueError):
            noted = {}
        return {**noted, **{door: address for door, address in self.configured.items() if address}}
