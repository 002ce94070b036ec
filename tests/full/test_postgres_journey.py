"""The whole journey with every service on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.home import STAGES
from deploy.local.testing_postgres import RealPostgres
from tests.stack import Stack, Walk

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]


@pytest.fixture
def postgres_stack(postgres_server: RealPostgres, tmp_path: Path) -> Iterator[Stack]:
    """An installation whose services have a database each on one PostgreSQL."""
    home = tmp_path / "home"
    home.mkdir()
    sections = [f'[{stage}]\ndatabase_url = "{postgres_server.create_database()}"\n' for stage in STAGES]
    (home / "modelry.toml").write_text("launch_cpu_overcommit = 2.0\n" + "".join(sections), "utf-8")
    stack = Stack(home)
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


def test_the_journey_on_postgresql(postgres_stack: Stack, tmp_path: Path) -> None:
    walk = Walk(postgres_stack, tmp_path / "tiny")
    walk.model()
    walk.data()
    walk.tune()
    walk.publish()
    walk.evaluate()
    walk.deploy()
    assert walk.resources["deployment"].ready_replicas == 1
    assert not list((postgres_stack.home / "data").glob("*.db")), "no service fell back to SQLite"
    events = list(postgres_stack.client.pages("list_events", "events", resource="job", id=walk.ids["job"]))
    assert [event.happening for event in events].count("succeeded") == 1
