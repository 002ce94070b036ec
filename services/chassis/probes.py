"""What a service stands on, asked every few seconds: its database and the object store."""

import asyncio
import ssl
import urllib.error

from sqlalchemy import text

from services.chassis.background import BackgroundLoop
from services.chassis.data import Database, fetch
from services.chassis.direct import open_direct
from services.chassis.errors import ModelryError, Unavailable
from services.chassis.readiness import Lack, LackLog

ANSWER_SECONDS = 5.0
_REVISION = text("SELECT version_num FROM alembic_version")


class DatabaseProbe(BackgroundLoop):
    """Read the schema's revision. Without the database, or with another schema, no call can be answered."""

    def __init__(self, database: Database, period_seconds: float) -> None:
        super().__init__("probe of the database", self._look, period_seconds)
        self._database = database
        self._revision = ""
        self._lacks = LackLog()

    def cannot_answer(self) -> list[Lack]:
        """Return why the database is away, or that its schema is not the one of this process."""
        return self._lacks.all()

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                revision = (await fetch(self._database, _REVISION)).scalar_one()
        except TimeoutError:
            self._lacks.note("database", f"The database did not answer within {ANSWER_SECONDS:g} s.")
            return
        except ModelryError as error:
            self._lacks.note("database", error.message)
            return
        except Exception as error:
            self._lacks.note("database", f"The database cannot be read: {error}")
            raise
        self._lacks.clear("database")
        self._revision = self._revision or revision
        if revision == self._revision:
            self._lacks.clear("schema")
        else:
            message = f"The schema became {revision} while this process runs with {self._revision}: start it again."
            self._lacks.note("schema", message)


class StoreProbe(BackgroundLoop):
    """Ask the installation's object store whether it answers at all; any answer below 500 will do."""

    def __init__(self, endpoint: str, period_seconds: float, ca_file: str = "") -> None:
        """Args: ca_file: certificates that are trusted beside the well-known ones."""
        super().__init__("probe of the object store", self._look, period_seconds)
        self._endpoint = endpoint
        self._trusted = ssl.create_default_context()
        if ca_file:
            self._trusted.load_verify_locations(ca_file)
        self._lacks = LackLog()

    def degraded(self) -> list[Lack]:
        """Return why the store is not reachable, if so."""
        return self._lacks.all()

    async def _look(self) -> None:
        try:
            await asyncio.to_thread(_ask, self._endpoint, self._trusted)
        except Unavailable as error:
            self._lacks.note("store", error.message)
        else:
            self._lacks.clear("store")


def _ask(endpoint: str, trusted: ssl.SSLContext) -> None:
    """Send one request to a store. Raises: Unavailable."""
    if not endpoint.startswith(("http://", "https://")):
        raise Unavailable(f"The address of the object store ({endpoint}) is no HTTP address.")
    try:
        with open_direct(endpoint, ANSWER_SECONDS, trusted):
            return
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise Unavailable(f"The object store at {endpoint} answers with status {error.code}.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(f"The object store at {endpoint} is not reachable: {reason}.") from error
