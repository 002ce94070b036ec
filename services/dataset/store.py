"""Tables and queries of the dataset service."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from modelry.dataset.v1 import dataset_pb2 as pb
from services.chassis.data import Database, Repository, chassis_metadata, table_of
from services.chassis.garbage import discard, garbage_table
from services.chassis.holds import HoldingUnit, holds_table
from services.dataset.domain import Dataset, DatasetVersion, RefusedRow, State, StoredFile, Work

metadata = chassis_metadata()

FILES = table_of(StoredFile, metadata, "files")
DATASETS = table_of(Dataset, metadata, "datasets")
VERSIONS = table_of(
    DatasetVersion,
    metadata,
    "dataset_versions",
    unique=(("dataset_id", "number"),),
    indexes=(("state",), ("dataset_id", "create_time", "id")),
)
WORK = table_of(Work, metadata, "work", key=("version_id",))
ROW_ERRORS = table_of(RefusedRow, metadata, "row_errors", key=("version_id", "position"))
HOLDS = holds_table(metadata)
GARBAGE = garbage_table(metadata)


class DatasetUnit(HoldingUnit):
    """One transaction of the dataset service."""

    def __init__(self, database: Database, *, write: bool = True) -> None:
        super().__init__(database, HOLDS, write=write)
        self.files = Repository(self, FILES, StoredFile, "file", message=pb.File)
        self.datasets = Repository(self, DATASETS, Dataset, "dataset", message=pb.Dataset)
        self.versions = Repository(
            self,
            VERSIONS,
            DatasetVersion,
            "dataset version",
            message=pb.DatasetVersion,
        )

    # --- data sets and versions ---

    async def next_number(self, dataset_id: str) -> int:
        """Give out the data set's next version number; a deleted version's is never given again."""
        statement = (
            update(DATASETS)
            .where(DATASETS.c.id == dataset_id)
            .values(last_number=DATASETS.c.last_number + 1)
            .returning(DATASETS.c.last_number)
        )
        return int((await self.connection.execute(statement)).scalar_one())

    async def newest_published(self, dataset_ids: Sequence[str]) -> dict[str, int]:
        """Return the number of the newest published version of each data set that has one."""
        columns = VERSIONS.c
        query = (
            select(columns.dataset_id, func.max(columns.number))
            .where(columns.dataset_id.in_(dataset_ids), columns.state == State.PUBLISHED)
            .group_by(columns.dataset_id)
        )
        return {row[0]: int(row[1]) for row in await self.connection.execute(query)}

    async def version_of(
        self, dataset_id: str, key: str | int | None, *, published: bool = False
    ) -> DatasetVersion | None:
        """Return a version of a data set by id or number; None asks for the newest (the newest published)."""
        columns = VERSIONS.c
        conditions = [columns.dataset_id == dataset_id]
        if isinstance(key, str):
            conditions.append(columns.id == key)
        elif key is not None:
            conditions.append(columns.number == key)
        elif published:
            conditions.append(columns.state == State.PUBLISHED)
        versions = await self.versions.select(*conditions, order_by=(columns.number.desc(),), limit=1)
        return versions[0] if versions else None

    async def versions_in(self, dataset_id: str) -> list[DatasetVersion]:
        """Return all versions of a data set."""
        return await self.versions.select(VERSIONS.c.dataset_id == dataset_id)

    async def importing(self) -> list[DatasetVersion]:
        """Return all versions whose rows are still to be read, oldest first."""
        return await self.versions.select(VERSIONS.c.state == State.IMPORTING, order_by=(VERSIONS.c.id,))

    async def importers_of_file(self, project: str, file_id: str) -> list[str]:
        """Return the names of the versions that are just being imported from a file."""
        versions = await self.versions.select(VERSIONS.c.project == project, VERSIONS.c.state == State.IMPORTING)
        return [f"{item.dataset_name}@{item.number}" for item in versions if item.source.file_id == file_id]

    # --- the running side of imports ---

    async def add_work(self, work: Work) -> None:
        """Note an import that is to be done."""
        await self.connection.execute(insert(WORK).values(asdict(work)))

    async def work_of(self, version_ids: Sequence[str]) -> dict[str, Work]:
        """Return the running side of imports, by version."""
        query = select(WORK).where(WORK.c.version_id.in_(version_ids))
        return {row["version_id"]: Work(**row) for row in (await self.connection.execute(query)).mappings()}

    async def change_work(self, version_id: str, token: int, /, **values: Any) -> bool:
        """Change an import under its token. False: somebody else owns it now."""
        statement = update(WORK).where(WORK.c.version_id == version_id, WORK.c.token == token).values(**values)
        return (await self.connection.execute(statement)).rowcount == 1

    # --- refused rows ---

    async def put_row_errors(self, version_id: str, rows: Sequence[RefusedRow]) -> None:
        """Store the report of an import instead of what an earlier attempt left."""
        await self.connection.execute(delete(ROW_ERRORS).where(ROW_ERRORS.c.version_id == version_id))
        if rows:
            await self.connection.execute(insert(ROW_ERRORS), [asdict(row) for row in rows])

    async def row_errors(self, version_id: str, after: int, limit: int) -> list[RefusedRow]:
        """Return refused rows from a place in the report on."""
        columns = ROW_ERRORS.c
        query = select(ROW_ERRORS).where(columns.version_id == version_id, columns.position >= after)
        rows = await self.connection.execute(query.order_by(columns.position).limit(limit))
        return [RefusedRow(**row) for row in rows.mappings()]

    # --- deletion ---

    async def delete_version(self, version: DatasetVersion) -> None:
        """Remove a version with everything that belongs to it; its objects become garbage."""
        for table in (WORK, ROW_ERRORS):
            await self.connection.execute(delete(table).where(table.c.version_id == version.id))
        await self.holds.forget(version.id)
        await self.versions.delete(version)

    async def discard(self, bucket: str, prefix: str) -> None:
        """Note a folder of the installation's store that is to be removed."""
        await discard(self, GARBAGE, bucket, prefix)
