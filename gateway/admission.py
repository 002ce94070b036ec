"""Who works at which replica: a place for each call, so many sequences of one key at a time, and a line for the rest.

A replica's engine works on a bounded number of sequences, first come, first served. What one key has there is bounded
here, so that the calls of another key find room. The rest waits in order: the calls of one key to one deployment are a
line, and only the first of it looks for a place. A call that is cancelled while it waits is gone from the line.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.balancing import choose
from services.chassis.errors import OverLimit
from services.clients.records import ReplicaRecord

MOST_WAITING = 1000
"""How many calls may stand in one line; each holds its body."""
RETRY_SECONDS = 5.0


@dataclass(slots=True)
class Claim:
    """What a call needs: room for its sequences beside those of its key, at a replica that it has not tried.

    Attributes:
        most: sequences that the key may have at one replica; no claim is for more.
        replicas: those that the deployment has now.
        waits: it stands in the line, and nothing of it is at a replica.
    """

    deployment_id: str
    key_id: str
    sequences: int
    most: int
    prefix: str
    replicas: Callable[[], Sequence[ReplicaRecord]]
    tried: set[str] = field(default_factory=set)
    waits: bool = False

    def left(self) -> list[ReplicaRecord]:
        """Return the replicas that were not tried."""
        return [one for one in self.replicas() if one.id not in self.tried]


@dataclass
class _Line:
    """The calls of one key that wait for one deployment: whose turn it is, and whether a place was given back."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    freed: asyncio.Event = field(default_factory=asyncio.Event)
    length: int = 0


class Admission:
    """Gives places at replicas. One for a gateway; several gateways each count for themselves."""

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self.in_flight: Counter[str] = Counter()
        self._held: dict[tuple[str, str], int] = {}
        self._lines: dict[tuple[str, str], _Line] = {}

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return sum(line.length for line in self._lines.values())

    async def place(self, claim: Claim) -> ReplicaRecord | None:
        """Take a place at a replica, to be given back; None: all were tried. Raises: OverLimit."""
        replica = None if (claim.deployment_id, claim.key_id) in self._lines else self._take(claim)
        if replica is None and claim.left():
            replica = await self._stand_in_line(claim)
        if replica is not None:
            claim.tried.add(replica.id)
        return replica

    def give_back(self, claim: Claim, replica: ReplicaRecord) -> None:
        """End a call at a replica, and let the next one look."""
        self.in_flight[replica.id] -= 1
        held = (replica.id, claim.key_id)
        self._held[held] -= claim.sequences
        if not self._held[held]:
            del self._held[held]
        if (line := self._lines.get((claim.deployment_id, claim.key_id))) is not None:
            line.freed.set()

    def _take(self, claim: Claim) -> ReplicaRecord | None:
        """Take a place at the best replica with room, if there is one."""
        room = claim.most - claim.sequences
        roomy = [one for one in claim.left() if self._held.get((one.id, claim.key_id), 0) <= room]
        replica = choose(roomy, self.in_flight, claim.prefix)
        if replica is not None:
            self.in_flight[replica.id] += 1
            held = (replica.id, claim.key_id)
            self._held[held] = self._held.get(held, 0) + claim.sequences
        return replica

    async def _stand_in_line(self, claim: Claim) -> ReplicaRecord | None:
        name = (claim.deployment_id, claim.key_id)
        line = self._lines.setdefault(name, _Line())
        if line.length >= MOST_WAITING:
            raise _too_busy(claim, f"{MOST_WAITING} of its calls wait already")
        line.length += 1
        claim.waits = True
        try:
            async with asyncio.timeout(self._wait_seconds), line.turn:
                while (replica := self._take(claim)) is None and claim.left():
                    line.freed.clear()
                    await line.freed.wait()
                return replica
        except TimeoutError as error:
            raise _too_busy(claim, f"this call has waited {self._wait_seconds:g} s") from error
        finally:
            claim.waits = False
            line.length -= 1
            if not line.length:
                del self._lines[name]


def _too_busy(claim: Claim, words: str) -> OverLimit:
    return OverLimit(
        f"This key may have {claim.most} sequences at work at each replica, and {words}. Ask for less at a time.",
        retry_seconds=RETRY_SECONDS,
    )
