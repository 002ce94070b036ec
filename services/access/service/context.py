"""What the gRPC methods of access stand on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from services.access.domain.keys import ApiKey
from services.access.operations import AccessUnit
from services.access.operations.credentials import Stores
from services.access.operations.server import ServerFacts

Opener = Callable[[], AccessUnit]


@dataclass(frozen=True)
class ServiceContext:
    """Made once, in `__main__`.

    Attributes:
        read: makes a unit of work that reads.
        write: makes one that writes.
        stores: object stores and the seal on their secrets.
        propagate: waits until gateways can know of a key's change; false if that takes too long.
        facts: what the installation is.
        hold: how long money is set aside without a confirmation.
    """

    read: Opener
    write: Opener
    stores: Stores
    propagate: Callable[[ApiKey], Awaitable[bool]]
    facts: ServerFacts
    hold: timedelta
