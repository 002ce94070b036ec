"""Migrations make the tables of the code, and rows that an older version wrote are read by this one."""

from __future__ import annotations

import importlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import TypeAdapter

from deploy.tooling.sources import STAGES
from services.chassis.data import differences
from services.chassis.data.migration import upgrade
from services.chassis.objects import StoredFiles
from services.chassis.transitions import Failure, FailureKind
from services.serving.domain.entities import Adapter, Files, ModelFacts

pytestmark = pytest.mark.unit
SERVICES = Path(__file__).parents[2] / "services"
NOW = datetime(2026, 11, 24, tzinfo=UTC)
FILLERS: dict[type, Any] = {str: "", int: 0, float: 0.0, bool: False}


class OldDatabase:
    """A database as the first version of a service made it; `add` fills what is not said."""

    def __init__(self, service: str, folder: Path) -> None:
        self._migrations = SERVICES / service / "migrations"
        first = folder / "first" / "versions"
        first.mkdir(parents=True)
        shutil.copy(self._migrations / "versions" / "0001_initial.py", first)
        self.engine = sa.create_engine(f"sqlite:///{folder}/old.db")
        with self.engine.begin() as connection:
            upgrade(connection, first.parent)

    def add(self, table: str, **values: Any) -> None:
        """Insert a row as the older version wrote it."""
        with self.engine.begin() as connection:
            old = sa.Table(table, sa.MetaData(), autoload_with=connection)
            missing = (column for column in old.columns if column.name not in values and not column.nullable)
            filled = {column.name: FILLERS.get(column.type.python_type) for column in missing}
            connection.execute(sa.insert(old).values({**filled, **values}))

    def upgrade(self) -> None:
        """Run the migrations of today."""
        with self.engine.begin() as connection:
            upgrade(connection, self._migrations)

    def one(self, table: str, column: str) -> Any:
        """The only row's value of a column."""
        with self.engine.begin() as connection:
            return connection.execute(sa.text(f"SELECT {column} FROM {table}")).scalar_one()


@pytest.mark.parametrize(
    ("service", "table", "old", "kind"),
    [
        ("registry", "model_versions", {"user": True}, FailureKind.USER),
        ("serving", "deployments", {"user": False}, FailureKind.SYSTEM),
        ("dataset", "dataset_versions", {"kind": 1}, FailureKind.USER),
    ],
)
def test_a_failure_of_an_older_version_says_whose_doing_it_is(
    service: str, table: str, old: dict[str, Any], kind: FailureKind, tmp_path: Path
) -> None:
    database = OldDatabase(service, tmp_path)
    failure = json.dumps({"reason": "R", "message": "m", **old})
    own = {"facts": '{"base":null,"own":null}', "adapters": "[]"} if table == "deployments" else {}
    database.add(table, id="x", create_time=NOW, failure=failure, **own)
    database.upgrade()
    assert Failure(**json.loads(database.one(table, "failure"))) == Failure("R", "m", kind)


@pytest.mark.parametrize(
    ("service", "table", "owner"),
    [("training", "trash", {"project": "p", "credential": "cred-1"}), ("dataset", "garbage", {})],
)
def test_files_that_an_older_version_had_still_to_delete_are_carried_over(
    service: str, table: str, owner: dict[str, str], tmp_path: Path
) -> None:
    database = OldDatabase(service, tmp_path)
    extra = {"id": "trash-1", "create_time": NOW} if table == "trash" else {}
    database.add(table, bucket="b", prefix="jobs/1", **owner, **extra)
    database.upgrade()
    columns = ("bucket", "prefix", "project", "credential", "attempts")
    found = tuple(database.one("garbage", column) for column in columns)
    assert found == ("b", "jobs/1", owner.get("project", ""), owner.get("credential", ""), 0)


def test_files_of_an_older_deployment_are_one_value(tmp_path: Path) -> None:
    database = OldDatabase("serving", tmp_path)
    old = {"version_id": "mv-1", "bucket": "b", "prefix": "models/1", "manifest": "{}", "digest": "sha256:1"}
    facts = {"adapter": True, "base": old, "own": None}
    adapters = [{"model_version_id": "mv-1", "fine_tuned_name": "ft:a", "engine_name": "ft:a", "files": old}]
    database.add("deployments", id="x", create_time=NOW, facts=json.dumps(facts), adapters=json.dumps(adapters))
    database.upgrade()
    files = Files("mv-1", StoredFiles("b", "models/1", "{}"), "sha256:1")
    read = TypeAdapter(ModelFacts).validate_json(database.one("deployments", "facts"))
    assert read == ModelFacts(adapter=True, base=files)
    (adapter,) = TypeAdapter(tuple[Adapter, ...]).validate_json(database.one("deployments", "adapters"))
    assert adapter.files == files


def test_where_the_rows_of_a_data_set_lie_becomes_one_value(tmp_path: Path) -> None:
    database = OldDatabase("dataset", tmp_path)
    flat = {"bucket": "b", "prefix": "datasets/1", "manifest_json": "{}"}
    database.add("dataset_versions", id="dsv-1", create_time=NOW, output=json.dumps({"row_count": 3, **flat}))
    database.upgrade()
    output = json.loads(database.one("dataset_versions", "output"))
    assert (output["row_count"], StoredFiles(**output["files"])) == (3, StoredFiles("b", "datasets/1", "{}"))


def test_files_of_a_checkpoint_and_of_data_sets_become_one_value(tmp_path: Path) -> None:
    database = OldDatabase("training", tmp_path)
    flat = {"bucket": "b", "prefix": "d/1", "manifest": "{}"}
    output = json.dumps({"credential": "cred-1", "bucket": "own", "prefix": "jobs"})
    uses = json.dumps([{"ref": "d", "version_id": "dsv-1", **flat}])
    others = {"create_time": NOW, "update_time": NOW, "name": "n"}
    database.add("jobs", id="job-1", datasets=uses, output=output, **others)
    database.add("checkpoints", id="c", job_id="job-1", create_time=NOW, bucket="own", prefix="jobs/1", manifest="{}")
    database.upgrade()
    kept = StoredFiles(**json.loads(database.one("checkpoints", "files")))
    assert kept == StoredFiles("own", "jobs/1", "{}", "cred-1")
    [use] = json.loads(database.one("jobs", "datasets"))
    assert (use["version_id"], StoredFiles(**use["files"])) == ("dsv-1", StoredFiles("b", "d/1", "{}"))


@pytest.mark.parametrize("service", STAGES)
def test_an_older_database_becomes_that_of_today(service: str, tmp_path: Path) -> None:
    database = OldDatabase(service, tmp_path)
    database.upgrade()
    metadata = importlib.import_module(f"services.{service}.store").metadata
    with database.engine.begin() as connection:
        assert differences(connection, metadata) == []
