"""Fixtures that every test may use: real servers, started once per run when the first test asks."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from deploy.local.testing import RealNats, RealObjects
from deploy.local.testing_postgres import RealPostgres
from tests.stack import journey, stack  # noqa: F401 - fixtures of the whole installation

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealNats]:
    """NATS with JetStream: `.url`, `.passwords[user]`. A test that stops or wipes it starts a `RealNats` of its own."""
    with RealNats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealObjects]:
    """S3: `.url`, `.access_key`, `.secret_key`, `.bucket`, `.region`."""
    with RealObjects(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[RealPostgres]:
    """PostgreSQL: `.create_database()` gives the URL of a new one."""
    server = RealPostgres()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres_server: RealPostgres) -> str:
    """The URL of an empty PostgreSQL database of this test."""
    return postgres_server.create_database()
