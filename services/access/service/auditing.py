"""Refusals in the audit log."""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from services.access.operations import audit
from services.chassis.auth import current
from services.chassis.clock import now
from services.chassis.errors import ModelryError

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=Callable[..., Awaitable[Any]])


def audited(method: M) -> M:
    """Note a refusal of this method in the audit log; a success is noted by its own transaction.

    The answer does not wait for a database that is away.
    """

    @functools.wraps(method)
    async def run(self: Any, request: Any, call: Any) -> Any:
        try:
            return await method(self, request, call)
        except ModelryError as error:
            first = getattr(request, request.DESCRIPTOR.fields[0].name)
            ref = first if isinstance(first, str) else first.name
            try:
                await audit.note_refusal(current(), method.__name__, ref[:128], error.reason, self._context, now())
            except ModelryError as failure:
                _log.warning("a refusal of %s could not be noted: %s", method.__name__, failure.message)
            raise

    return run  # type: ignore[return-value]
