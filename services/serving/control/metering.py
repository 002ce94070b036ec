"""Counts the hours of replicas by this process's own clock, and has them written down now and then."""

import logging
import time
from collections import defaultdict
from collections.abc import Sequence

from services.chassis.clock import now
from services.chassis.errors import ModelryError
from services.serving.domain.entities import Deployment, Replica, ReplicaState
from services.serving.operations import money
from services.serving.operations.context import ServiceContext

_USED = (ReplicaState.READY, ReplicaState.DRAINING)
_log = logging.getLogger(__name__)


class Metering:
    """Replica-hours times compute units (cores) that are not written down yet, by deployment."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._hours: defaultdict[str, float] = defaultdict(float)
        self._units: dict[str, int] = {}
        self._ticked = time.monotonic()
        self._written = time.monotonic()

    async def tick(self, everything: Sequence[tuple[Deployment, Sequence[Replica]]]) -> None:
        """Count the time since the last tick for what was in use then; write it down when it is time."""
        moment = time.monotonic()
        for deployment_id, units in self._units.items():
            self._hours[deployment_id] += units * (moment - self._ticked) / 3600
        self._ticked = moment
        self._units = {
            deployment.id: sum(one.cpu_count for one in replicas if one.state in _USED)
            for deployment, replicas in everything
        }
        if moment - self._written >= self._context.settings.meter_seconds:
            self._written = moment
            await self.flush()

    async def flush(self, only: str = "") -> None:
        """Write down what was counted, of one deployment or of all."""
        for deployment_id in [only] if only else list(self._units):
            hours = self._hours.pop(deployment_id, 0.0)
            async with self._context.reading() as uow:
                deployment = await uow.deployments.by_id(deployment_id)
            if deployment is None:
                continue
            projected = self._units.get(deployment_id, 0) * self._context.settings.meter_seconds / 3600
            try:
                await money.meter(deployment, hours, projected, self._context, now())
            except ModelryError as error:
                self._hours[deployment_id] += hours
                _log.warning("hours of %s wait: %s", deployment_id, error.message)
