"""PostgreSQL behind a unit of work: asynchronous, with a pool; each service has a schema of its own name."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from services.chassis.data.engines import Connection, until_done

DIALECT = "postgresql"


class PostgresEngine:
    """A pool of connections to one server. Make it with the URL and the service's name, which is its schema's."""

    dialect = DIALECT

    def __init__(self, url: URL, service: str) -> None:
        arguments = {"connect_timeout": 10, "options": f"-c search_path={service}"}
        url = url.set(drivername="postgresql+psycopg")
        self._engine = create_async_engine(
            url, pool_size=4, max_overflow=12, pool_pre_ping=True, connect_args=arguments
        )
        event.listen(self._engine.sync_engine, "first_connect", _make_schema(service), insert=True)

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """Open a connection outside of units of work, for the schema."""
        return cast(AbstractAsyncContextManager[Connection], self._engine.connect())

    async def begin(self, *, write: bool) -> "PostgresTransaction":
        """Open a transaction; one that is cancelled meanwhile is opened to the end, then closed: none leaks."""
        opening = asyncio.ensure_future(self._open(write))
        try:
            return PostgresTransaction(await asyncio.shield(opening))
        except asyncio.CancelledError:
            await until_done(opening)
            if opening.exception() is None:
                await opening.result().close()
            raise

    async def _open(self, write: bool) -> AsyncConnection:
        connection = self._engine.connect()
        await connection.start()  # one that does not start must not be closed: closing would hide why
        try:
            await connection.execution_options(isolation_level="READ COMMITTED" if write else "REPEATABLE READ")
            await connection.begin()
        except BaseException:
            await connection.close()
            raise
        return connection

    async def dispose(self) -> None:
        await self._engine.dispose()


class PostgresTransaction:
    """One transaction on a connection of the pool."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @property
    def connection(self) -> Connection:
        """What statements are executed on."""
        return cast(Connection, self._connection)

    def guarded(self) -> AbstractAsyncContextManager[Any]:
        """Return a savepoint: a refused statement would make the whole transaction unusable."""
        return self._connection.begin_nested()

    async def commit(self, then: Callable[[], None]) -> None:
        """Make everything durable, then call `then`, also when the caller is cancelled meanwhile."""
        await _to_the_end(self._commit(then))

    async def _commit(self, then: Callable[[], None]) -> None:
        await self._connection.commit()
        then()

    async def close(self) -> None:
        """Give the connection back, also when the caller is cancelled meanwhile."""
        await _to_the_end(self._connection.close())


async def _to_the_end(work: Any) -> None:
    """Await something that a cancelled caller must not leave half done."""
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        await until_done(doing)
        raise


def _make_schema(service: str) -> Callable[[Any, Any], None]:
    def make(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f'CREATE SCHEMA IF NOT EXISTS "{service}"')
        cursor.close()
        connection.commit()

    return make
