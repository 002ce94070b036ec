"""gRPC methods: message -> use case -> message."""

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.empty_pb2 import Empty

from modelry.registry.v1 import internal_pb2, internal_pb2_grpc, registry_pb2_grpc
from modelry.registry.v1 import registry_pb2 as pb
from services.chassis.auth import current
from services.chassis.clock import now
from services.chassis.data import PageQuery, request_digest
from services.chassis.holds import confirm_holds, release_holds
from services.chassis.locations import StoredFiles
from services.chassis.proto_values import creation_of, labels_update_of, location_of, message_of, page_message, value_of
from services.registry import messages as to
from services.registry.operations import aliases, lineage, models, publish, versions
from services.registry.operations.context import ServiceContext


class RegistryServicer(registry_pb2_grpc.RegistryServiceServicer):
    """The public methods; the protos say what each does."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def CreateModel(self, request: pb.CreateModelRequest, call: Any) -> pb.Model:
        command = creation_of(request, request_digest(request))
        return message_of(pb.Model, await models.create_model(command, self._context, now()))

    async def GetModel(self, request: pb.GetModelRequest, call: Any) -> pb.Model:
        return await self._get(request.model)

    async def _get(self, ref: str) -> pb.Model:
        return message_of(pb.Model, await models.get_model(current().project, ref, self._context))

    async def ListModels(self, request: pb.ListModelsRequest, call: Any) -> pb.ListModelsResponse:
        page = await models.list_models(current().project, PageQuery.of(request), self._context)
        return page_message(pb.ListModelsResponse, page)

    async def UpdateModel(self, request: pb.UpdateModelRequest, call: Any) -> pb.Model:
        command = await labels_update_of(request, self._get)
        return message_of(pb.Model, await models.update_model(command, self._context, now()))

    async def DeleteModel(self, request: pb.DeleteModelRequest, call: Any) -> Empty:
        await models.delete_model(current().project, request.model, self._context, now())
        return Empty()

    async def CreateModelVersion(self, request: pb.CreateModelVersionRequest, call: Any) -> pb.ModelVersion:
        wanted = request.model_version
        source, digest = location_of(wanted.source), request_digest(request)
        command = versions.CreateVersion(
            current().project, request.model, source, dict(wanted.metadata), request.request_id, digest
        )
        return to.version_message(await versions.create_version(command, self._context, now()))

    async def PrepareModel(self, request: pb.PrepareModelRequest, call: Any) -> pb.ModelVersion:
        version = await versions.get_version(current().project, request.model, "latest", self._context)
        return to.version_message(await versions.prepare_version(version.id, self._context, now()))

    async def GetModelVersion(self, request: pb.GetModelVersionRequest, call: Any) -> pb.ModelVersion:
        version = await versions.get_version(current().project, request.model, request.version, self._context)
        return to.version_message(version)

    async def ListModelVersions(self, request: pb.ListModelVersionsRequest, call: Any) -> pb.ListModelVersionsResponse:
        page = await versions.list_versions(current().project, request.model, PageQuery.of(request), self._context)
        return page_message(pb.ListModelVersionsResponse, page, to.version_message)

    async def DeleteModelVersion(self, request: pb.DeleteModelVersionRequest, call: Any) -> Empty:
        await versions.delete_version(current().project, request.model, request.version, self._context, now())
        return Empty()

    async def WatchModelVersion(
        self, request: pb.WatchModelVersionRequest, call: Any
    ) -> AsyncIterator[pb.ModelVersion]:
        changes = versions.watch_version(
            current().project, request.model, request.version, request.after_version, self._context
        )
        async for version in changes:
            yield to.version_message(version)

    async def SetAlias(self, request: pb.SetAliasRequest, call: Any) -> pb.Alias:
        caller = current()
        alias = await aliases.set_alias(
            caller.project, request.model, request.alias, request.version, caller.key_id, self._context, now()
        )
        return to.alias_message(alias)

    async def GetAlias(self, request: pb.GetAliasRequest, call: Any) -> pb.Alias:
        alias = await aliases.get_alias(current().project, request.model, request.alias, self._context)
        return to.alias_message(alias)

    async def ListAliases(self, request: pb.ListAliasesRequest, call: Any) -> pb.ListAliasesResponse:
        page = await aliases.list_aliases(current().project, request.model, PageQuery.of(request), self._context)
        return page_message(pb.ListAliasesResponse, page, to.alias_message)

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, call: Any) -> Empty:
        await aliases.delete_alias(current().project, request.model, request.alias, self._context)
        return Empty()

    async def GetLineage(self, request: pb.GetLineageRequest, call: Any) -> pb.Lineage:
        graph = await lineage.get_lineage(current().project, request.model, request.version, self._context)
        return to.lineage_message(graph)


class RegistryInternalServicer(internal_pb2_grpc.RegistryInternalServiceServicer):
    """What other services ask; the protos say what each method does."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def ResolveModel(self, request: internal_pb2.ResolveModelRequest, call: Any) -> internal_pb2.ResolvedModel:
        resolved = await versions.resolve_model(
            current().project, request.reference, request.holder, self._context, now()
        )
        return to.resolved_message(resolved)

    async def ConfirmModelHold(self, request: internal_pb2.ConfirmModelHoldRequest, call: Any) -> Empty:
        await confirm_holds(self._context.writing(), current().project, request.holder)
        return Empty()

    async def ReleaseModelHold(self, request: internal_pb2.ReleaseModelHoldRequest, call: Any) -> Empty:
        await release_holds(self._context.writing(), current().project, request.holder)
        return Empty()

    async def RegisterCheckpoint(self, request: internal_pb2.RegisterCheckpointRequest, call: Any) -> pb.ModelVersion:
        files, digest = value_of(StoredFiles, request), request_digest(request)
        given = {"project": current().project, "step": request.checkpoint_step, "files": files, "digest": digest}
        command = value_of(publish.RegisterCheckpoint, request, **given)
        return to.version_message(await publish.register_checkpoint(command, self._context, now()))
