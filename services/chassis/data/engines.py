"""What a unit of work needs of a database: connections and transactions, whatever is behind them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
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


class Transaction(Protocol):
    """One transaction, from `Engine.begin` on. `close` it in any case; without `commit` that rolls it back."""

    @property
    def connection(self) -> Connection:
        """What statements are executed on."""

    async def commit(self, then: Callable[[], None]) -> None:
        """Make everything durable, then call `then`, also when the caller is cancelled meanwhile."""

    def guarded(self) -> AbstractAsyncContextManager[Any]:
        """Guard a statement that may be refused, so that the transaction goes on after an IntegrityError."""

    async def close(self) -> None:
        """Roll back what was not committed, and give the connection back."""


class Engine(Protocol):
    """An open database of one kind."""

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """Open a connection outside of units of work, for the schema."""

    async def begin(self, *, write: bool) -> Transaction:
        """Open a transaction; it leaks nothing when the caller is cancelled meanwhile."""

    async def dispose(self) -> None:
        """Close all connections."""


async def until_done(work: asyncio.Future[Any]) -> None:
    """Wait for something that uses a connection, however often the caller is cancelled meanwhile."""
    while not work.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([work])
