"""gRPC methods: message -> use case -> message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.empty_pb2 import Empty

from modelry.registry.v1 import internal_pb2, internal_pb2_grpc, registry_pb2_grpc
from modelry.registry.v1 import registry_pb2 as pb
from services.chassis.auth import current
from services.chassis.clock import now
from services.chassis.data import PageQuery, request_digest
from services.chassis.holds import confirm_holds, release_holds
from services.chassis.proto_values import changes_of
from services.registry import messages as to
from services.registry.domain import Location
from services.registry.operations import aliases, lineage, models, publish, resolve, versions
from services.registry.operations.context import Desk


class RegistryServicer(registry_pb2_grpc.RegistryServiceServicer):
    """What the doors offer."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateModel(self, request: pb.CreateModelRequest, context: Any) -> pb.Model:
        """Makes a private model."""
        wanted = request.model
        command = models.CreateModel(
            current().project,
            wanted.name,
            wanted.title,
            dict(wanted.metadata),
            request.request_id,
            request_digest(request),
        )
        return to.model_message(await models.create_model(self._desk, command, now()))

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.Model:
        """One model."""
        return await self._get(request.model)

    async def _get(self, ref: str) -> pb.Model:
        return to.model_message(await models.get_model(self._desk, current().project, ref))

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        """The catalogue."""
        query = PageQuery(request.page_size, request.page_token, request.filter, request.order_by)
        page = await models.list_models(self._desk, current().project, query)
        found = [to.model_message(model) for model in page.items]
        return pb.ListModelsResponse(models=found, next_page_token=page.next_page_token)

    async def UpdateModel(self, request: pb.UpdateModelRequest, context: Any) -> pb.Model:
        """Changes title or metadata."""
        wanted = request.model
        ref = wanted.id or wanted.name
        changes = await changes_of(request, lambda: self._get(ref))
        command = models.UpdateModel(
            current().project,
            ref,
            changes.get("title"),
            changes.get("metadata"),
            wanted.etag,
        )
        return to.model_message(await models.update_model(self._desk, command, now()))

    async def DeleteModel(self, request: pb.DeleteModelRequest, context: Any) -> Empty:
        """Removes an own model."""
        await models.delete_model(self._desk, current().project, request.model, now())
        return Empty()

    async def CreateModelVersion(self, request: pb.CreateModelVersionRequest, context: Any) -> pb.ModelVersion:
        """Begins an import."""
        wanted = request.model_version
        command = versions.CreateVersion(
            current().project,
            request.model,
            to.location_of(wanted.source),
            dict(wanted.metadata),
            request.request_id,
            request_digest(request),
        )
        return to.version_message(await versions.create_version(self._desk, command, now()))

    async def PrepareModel(self, request: pb.PrepareModelRequest, context: Any) -> pb.ModelVersion:
        """Prepares a preset."""
        version = await versions.get_version(self._desk, current().project, request.model, "latest")
        return to.version_message(await versions.prepare_version(self._desk, version.id, now()))

    async def GetModelVersion(self, request: pb.GetModelVersionRequest, context: Any) -> pb.ModelVersion:
        """One version."""
        found = await versions.get_version(self._desk, current().project, request.model, request.version)
        return to.version_message(found)

    async def ListModelVersions(
        self, request: pb.ListModelVersionsRequest, context: Any
    ) -> pb.ListModelVersionsResponse:
        """Versions of a model."""
        query = PageQuery(request.page_size, request.page_token, request.filter, request.order_by)
        page = await versions.list_versions(self._desk, current().project, request.model, query)
        found = [to.version_message(version) for version in page.items]
        return pb.ListModelVersionsResponse(model_versions=found, next_page_token=page.next_page_token)

    async def DeleteModelVersion(self, request: pb.DeleteModelVersionRequest, context: Any) -> Empty:
        """Removes a version."""
        await versions.delete_version(self._desk, current().project, request.model, request.version, now())
        return Empty()

    async def WatchModelVersion(
        self, request: pb.WatchModelVersionRequest, context: Any
    ) -> AsyncIterator[pb.ModelVersion]:
        """A version as it changes."""
        changes = versions.watch_version(
            self._desk, current().project, request.model, request.version, request.after_version
        )
        async for version in changes:
            yield to.version_message(version)

    async def SetAlias(self, request: pb.SetAliasRequest, context: Any) -> pb.Alias:
        """Points an alias at a version."""
        caller = current()
        found = await aliases.set_alias(
            self._desk, caller.project, request.model, request.alias, request.version, caller.key_id, now()
        )
        return to.alias_message(found)

    async def GetAlias(self, request: pb.GetAliasRequest, context: Any) -> pb.Alias:
        """One alias."""
        found = await aliases.get_alias(self._desk, current().project, request.model, request.alias)
        return to.alias_message(found)

    async def ListAliases(self, request: pb.ListAliasesRequest, context: Any) -> pb.ListAliasesResponse:
        """Aliases of a model."""
        query = PageQuery(request.page_size, request.page_token, "", "")
        page = await aliases.list_aliases(self._desk, current().project, request.model, query)
        found = [to.alias_message(alias) for alias in page.items]
        return pb.ListAliasesResponse(aliases=found, next_page_token=page.next_page_token)

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Any) -> Empty:
        """Removes an alias."""
        await aliases.delete_alias(self._desk, current().project, request.model, request.alias)
        return Empty()

    async def GetLineage(self, request: pb.GetLineageRequest, context: Any) -> pb.Lineage:
        """The graph around a version."""
        graph = await lineage.get_lineage(self._desk, current().project, request.model, request.version)
        return to.lineage_message(graph)


class RegistryInternalServicer(internal_pb2_grpc.RegistryInternalServiceServicer):
    """What other services ask."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def ResolveModel(self, request: internal_pb2.ResolveModelRequest, context: Any) -> internal_pb2.ResolvedModel:
        """The version that a reference means."""
        found = await resolve.resolve_model(self._desk, current().project, request.reference, request.holder, now())
        return to.resolved_message(found)

    async def ConfirmModelHold(self, request: internal_pb2.ConfirmModelHoldRequest, context: Any) -> Empty:
        """Makes holds lasting."""
        await confirm_holds(self._desk.writing(), current().project, request.holder)
        return Empty()

    async def ReleaseModelHold(self, request: internal_pb2.ReleaseModelHoldRequest, context: Any) -> Empty:
        """Lets go."""
        await release_holds(self._desk.writing(), current().project, request.holder)
        return Empty()

    async def RegisterCheckpoint(
        self, request: internal_pb2.RegisterCheckpointRequest, context: Any
    ) -> pb.ModelVersion:
        """Makes a version from a checkpoint."""
        project = current().project
        command = publish.Publication(
            project=project,
            project_name=await publish.project_name(self._desk, project),
            model_name=request.model_name,
            checkpoint_id=request.checkpoint_id,
            job_id=request.job_id,
            step=request.checkpoint_step,
            final=request.final,
            base_id=request.base_model_version_id,
            dataset_version_ids=tuple(request.dataset_version_ids),
            place=Location(request.credential, request.bucket, request.prefix),
            manifest=request.manifest_json,
            lora_rank=request.lora_rank,
            chat_fingerprint=request.chat_fingerprint,
            metrics=dict(request.metrics),
            labels=dict(request.labels),
            suffix=request.suffix,
            request_id=request.request_id,
            digest=request_digest(request),
        )
        return to.version_message(await publish.register_checkpoint(self._desk, command, now()))
