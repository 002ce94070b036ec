"""Rows of earlier versions as this one reads them."""

from __future__ import annotations

import importlib

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, text

from services.chassis.data import JsonOf
from services.chassis.locations import StoredFiles
from services.registry.domain import Files

pytestmark = pytest.mark.unit

OLD = '{"bucket": "b", "prefix": "models/1", "manifest": "{}", "digest": "ab", "size_bytes": 7}'


def test_files_that_were_stored_flat_become_one_value() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection, Operations.context(MigrationContext.configure(connection)):
        connection.execute(text("CREATE TABLE model_versions (id TEXT, files TEXT)"))
        connection.execute(text("INSERT INTO model_versions VALUES ('mv-1', :old), ('mv-2', NULL)"), {"old": OLD})
        importlib.import_module("services.registry.migrations.versions.0005_stored_files").upgrade()
        new = connection.execute(text("SELECT files FROM model_versions ORDER BY id")).scalars().all()
    read = [JsonOf(Files).process_result_value(value, engine.dialect) for value in new]
    assert read == [Files(StoredFiles("b", "models/1", "{}"), "ab", 7), None]
