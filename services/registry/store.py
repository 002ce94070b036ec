"""Tables and queries of the registry."""

import dataclasses

from sqlalchemy import and_, delete, select

from modelry.registry.v1 import registry_pb2 as pb
from services.chassis.data import Database, Repository, chassis_metadata, table_of
from services.chassis.errors import NotFound
from services.chassis.garbage import discard, garbage_table
from services.chassis.holds import HoldingUnit, holds_table
from services.registry.domain import PRESETS, Alias, Link, Model, ModelVersion, Reference, State

metadata = chassis_metadata()

MODELS = table_of(Model, metadata, "models")
VERSIONS = table_of(
    ModelVersion,
    metadata,
    "model_versions",
    unique=(("model_id", "number"),),
    indexes=(("state",), ("fine_tuned_name",), ("base_id",), ("model_id", "create_time", "id")),
)
ALIASES = table_of(Alias, metadata, "aliases", unique=(("model_id", "alias"),))
HOLDS = holds_table(metadata)
GARBAGE = garbage_table(metadata)
LINKS = table_of(Link, metadata, "links", key=("model_version_id", "resource_id"))


class RegistryUnit(HoldingUnit):
    """One transaction of the registry."""

    def __init__(self, database: Database, *, write: bool = True) -> None:
        super().__init__(database, HOLDS, write=write)
        self.models = Repository(
            self,
            MODELS,
            Model,
            "model",
            message=pb.Model,
        )
        self.versions = Repository(
            self,
            VERSIONS,
            ModelVersion,
            "model version",
            message=pb.ModelVersion,
        )
        self.aliases = Repository(self, ALIASES, Alias, "alias")

    async def model(self, project: str, ref: str) -> Model:
        """Return a model by name, id or hub id; an own one wins over a preset. Raises: NotFound."""
        result = await self.models.find(project, ref) or await self.models.find(PRESETS, ref)
        if result is None and ref:
            result = await self.models.first(MODELS.c.project == PRESETS, MODELS.c.hub_id == ref)
        if result is None:
            raise NotFound.of("model", ref)
        return result

    async def version_by_id(self, project: str, version_id: str) -> ModelVersion:
        """Return a version of the project or of a preset. Raises: NotFound."""
        version = await self.versions.find(project, version_id) or await self.versions.find(PRESETS, version_id)
        if version is None:
            raise NotFound.of("model version", version_id)
        return version

    async def resolve(self, project: str, reference: Reference, text: str) -> ModelVersion:
        """Return the version that a reference means; without a number the newest READY, or else a preset's only one.

        Raises: NotFound.
        """
        if reference.version_id:
            return await self.version_by_id(project, reference.version_id)
        if reference.fine_tuned_name:
            columns = VERSIONS.c
            same = (columns.project == project, columns.fine_tuned_name == reference.fine_tuned_name)
            named = await self.versions.first(*same, order_by=(columns.number.desc(),))
            if named is None:
                raise NotFound.of("model", text)
            return named
        return await self.version_of(await self.model(project, reference.model), reference, text)

    async def version_of(self, model: Model, reference: Reference, text: str) -> ModelVersion:
        """Return the version of a model that a reference means. Raises: NotFound."""
        columns = VERSIONS.c
        conditions = [columns.model_id == model.id]
        if reference.version_id:
            conditions.append(columns.id == reference.version_id)
        elif reference.alias:
            alias = await self.alias(model.id, reference.alias)
            conditions.append(columns.id == alias.target.model_version_id)
        elif reference.number is not None:
            conditions.append(columns.number == reference.number)
        elif model.latest_version:
            conditions.append(columns.number == model.latest_version)
        version = await self.versions.first(*conditions, order_by=(columns.number.desc(),))
        if version is None:
            raise NotFound.of("model version", text)
        return version

    async def versions_in(self, model_id: str) -> list[ModelVersion]:
        """Return all versions of a model."""
        return await self.versions.select(VERSIONS.c.model_id == model_id)

    async def preparing(self) -> list[ModelVersion]:
        """Return all versions that are to be prepared, oldest first."""
        columns = VERSIONS.c
        return await self.versions.select(columns.state == State.PREPARING, order_by=(columns.create_time, columns.id))

    async def find_alias(self, model_id: str, alias: str) -> Alias | None:
        """Return an alias of a model, or None."""
        return await self.aliases.first(ALIASES.c.model_id == model_id, ALIASES.c.alias == alias)

    async def alias(self, model_id: str, alias: str) -> Alias:
        """Return an alias of a model. Raises: NotFound."""
        result = await self.find_alias(model_id, alias)
        if result is None:
            raise NotFound.of("alias", alias)
        return result

    async def delete_model(self, model: Model) -> None:
        """Remove a model with its versions and aliases."""
        for version in await self.versions_in(model.id):
            await self.versions.delete(version)
        await self.connection.execute(delete(ALIASES).where(ALIASES.c.model_id == model.id))
        await self.models.delete(model)

    async def add_link(self, link: Link) -> None:
        """Note a user of a version; once is enough."""
        await self.insert_new(LINKS, dataclasses.asdict(link))

    async def links_of(self, project: str, version_id: str) -> list[Link]:
        """Return the users of a version in a project, in the order of their ids."""
        same = and_(LINKS.c.project == project, LINKS.c.model_version_id == version_id)
        rows = await self.connection.execute(select(LINKS).where(same).order_by(LINKS.c.resource_id))
        return [Link(**row) for row in rows.mappings()]

    async def discard(self, bucket: str, prefix: str) -> None:
        """Note a folder of the installation's store that is to be removed."""
        await discard(self, GARBAGE, bucket, prefix)
