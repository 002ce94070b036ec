"""What a priced job sets aside under its own id: money at billing, and holds of what it uses at their owners."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from modelry.common.v1 import common_pb2
from services.chassis.errors import ModelryError, NotFound
from services.chassis.jobs.domain import PricedJob

_log = logging.getLogger(__name__)


class Billing(Protocol):
    """The ledger, as far as priced jobs need it. All methods but `quote` are idempotent by the reservation's id."""

    async def quote(
        self,
        project: str,
        item: str,
        quantities: tuple[float, float],
        spec_digest: str,
        description: str,
        notes: Sequence[str] = (),
    ) -> common_pb2.Quote:
        """Price an estimate of one item."""

    async def reserve(
        self, project: str, reservation_id: str, item: str, quantity: float, quote_id: str, spec_digest: str
    ) -> Decimal:
        """Set money aside; returns the price of a unit. Raises: WrongState: QUOTE_STALE."""

    async def confirm(self, project: str, reservation_id: str) -> None:
        """Keep a reservation until it is settled or released. Raises: NotFound, WrongState."""

    async def settle(self, project: str, reservation_id: str, quantity: float) -> None:
        """Book what was used and free the rest. Raises: NotFound."""

    async def release(self, project: str, reservation_id: str) -> None:
        """Free a reservation without a booking."""


class HoldOwner(Protocol):
    """A service whose things a job holds under its own id while it needs them. Both methods are idempotent."""

    async def confirm_hold(self, project: str, holder: str) -> None:
        """Make the holds of a holder lasting."""

    async def release_hold(self, project: str, holder: str) -> None:
        """Let go of everything that a holder holds."""


@dataclass(frozen=True)
class Estimate:
    """What a job is expected to take, in minutes; the high end is reserved.

    Attributes:
        description: what is paid for, in plain words.
        notes: what the caller should know before saying yes.
    """

    minutes_low: float
    minutes_high: float
    description: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Reservations:
    """Set aside, keep and free what jobs need. Every step may be repeated.

    Attributes:
        item: of the price list, by the minute.
        owners: services whose things the jobs hold.
    """

    billing: Billing
    item: str
    owners: Sequence[HoldOwner]

    async def quote(self, project: str, expected: Estimate, spec_digest: str) -> common_pb2.Quote:
        """Return what work of this estimate would cost."""
        minutes = (expected.minutes_low, expected.minutes_high)
        return await self.billing.quote(
            project, self.item, minutes, spec_digest, expected.description, tuple(expected.notes)
        )

    async def reserve(self, job: PricedJob, expected: Estimate, spec_digest: str) -> Decimal:
        """Set a job's money aside, under its id; returns the price of a minute. Raises: WrongState: QUOTE_STALE."""
        return await self.billing.reserve(
            job.project, job.id, self.item, expected.minutes_high, job.quote_id, spec_digest
        )

    async def confirm(self, job: PricedJob) -> None:
        """Keep the money and the holds of a job until it has ended."""
        for owner in self.owners:
            await owner.confirm_hold(job.project, job.id)
        await self.billing.confirm(job.project, job.id)

    async def settle(self, job: PricedJob, run_seconds: float) -> None:
        """Book what an ended job used, free the rest, and let go of what it held."""
        if run_seconds > 0:
            try:
                await self.billing.settle(job.project, job.id, run_seconds / 60)
            except NotFound as error:
                # Billing was restored from a copy of before it was reserved: there is nothing to book it on.
                _log.warning("%s ran for %.0f s and nothing is booked: %s", job.id, run_seconds, error)
            await self._let_go(job.project, job.id)
        else:
            await self.release(job.project, job.id)

    async def release(self, project: str, job_id: str) -> None:
        """Free a job's money without a booking, and let go of what it held."""
        await self.billing.release(project, job_id)
        await self._let_go(project, job_id)

    async def try_release(self, project: str, job_id: str) -> None:
        """Release what was held for a job that was not made; what cannot be freed now falls by itself."""
        try:
            await self.release(project, job_id)
        except ModelryError as error:
            _log.info("what %s had set aside falls by itself: %s", job_id, error)

    async def _let_go(self, project: str, job_id: str) -> None:
        for owner in self.owners:
            await owner.release_hold(project, job_id)
