"""The migrations make the tables of the code."""

from pathlib import Path

import pytest

from services.chassis.data import Database, differences
from services.training.store import metadata

pytestmark = pytest.mark.integration
MIGRATIONS = Path(__file__).parents[3] / "services" / "training" / "migrations"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_the_migrations_make_the_tables(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path}/t.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    database = await Database.open(url, "training", MIGRATIONS)
    try:
        async with database.engine.connect() as connection:
            assert await connection.run_sync(differences, metadata) == []
    finally:
        await database.close()
