"""What SQLite and PostgreSQL have in common: connections, and how to wait for what uses one."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from sqlalchemy import CursorResult, Executable

T = TypeVar("T")

Result = CursorResult[*tuple[Any, ...]]
Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


class Connection(Protocol):
    """A connection in a transaction. Results are complete: they can be read after the unit of work has ended."""

    async def execute(self, statement: Executable, parameters: Parameters = None) -> Result:
        """Execute a statement, once or for each of several sets of parameters."""

    async def run_sync(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function with SQLAlchemy's synchronous connection, then `args`, off the event loop's way."""


async def until_done(work: asyncio.Future[Any]) -> None:
    """Wait for something that uses a connection, however often the caller is cancelled meanwhile."""
    while not work.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([work])
