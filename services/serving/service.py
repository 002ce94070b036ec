"""gRPC methods: message -> use case -> message."""

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.empty_pb2 import Empty

from modelry.common.v1 import common_pb2
from modelry.serving.v1 import internal_pb2, internal_pb2_grpc, serving_pb2_grpc
from modelry.serving.v1 import serving_pb2 as pb
from services.chassis.auth import current
from services.chassis.clock import now
from services.chassis.data import PageQuery, request_digest
from services.chassis.errors import Invalid
from services.chassis.launch import Launcher
from services.chassis.proto_values import labels_update_of, message_of
from services.serving import messages as to
from services.serving.domain.entities import Deployment
from services.serving.operations import create_deployment, deployments
from services.serving.operations.context import ServiceContext


class ServingServicer(serving_pb2_grpc.ServingServiceServicer):
    """Serve the public methods of serving; the protos say what each does."""

    def __init__(self, context: ServiceContext, launcher: Launcher) -> None:
        self._context, self._launcher = context, launcher

    def _shown(self, deployment: Deployment) -> pb.Deployment:
        return to.deployment_message(deployment, self._context.base_url())

    async def CreateDeployment(self, request: pb.CreateDeploymentRequest, call: Any) -> pb.Deployment:
        command = to.create_command(request, current())
        return self._shown(await create_deployment.create_deployment(command, self._context, now()))

    async def QuoteDeployment(self, request: pb.CreateDeploymentRequest, call: Any) -> common_pb2.Quote:
        return await create_deployment.quote_deployment(to.create_command(request, current()), self._context, now())

    async def GetDeployment(self, request: pb.GetDeploymentRequest, call: Any) -> pb.Deployment:
        return await self._get(request.deployment)

    async def _get(self, ref: str) -> pb.Deployment:
        return self._shown(await deployments.get_deployment(current().project, ref, self._context))

    async def ListDeployments(self, request: pb.ListDeploymentsRequest, call: Any) -> pb.ListDeploymentsResponse:
        page = await deployments.list_deployments(current().project, PageQuery.of(request), self._context)
        messages = [self._shown(one) for one in page.items]
        return pb.ListDeploymentsResponse(deployments=messages, next_page_token=page.next_page_token)

    async def UpdateDeployment(self, request: pb.UpdateDeploymentRequest, call: Any) -> pb.Deployment:
        command = await labels_update_of(request, self._get)
        return self._shown(await deployments.update_deployment(command, self._context, now()))

    async def DeleteDeployment(self, request: pb.DeleteDeploymentRequest, call: Any) -> Empty:
        await deployments.delete_deployment(current().project, request.deployment, self._context, now())
        return Empty()

    async def ScaleDeployment(self, request: pb.ScaleDeploymentRequest, call: Any) -> pb.Deployment:
        if not request.HasField("replicas"):
            raise Invalid("The number of replicas is required.", field="replicas", reason="REQUIRED_FIELD")
        caller = current()
        cause = f"Scaled to {request.replicas} by {caller.subject or caller.key_id}."
        command = deployments.ScaleDeployment(caller.project, request.deployment, request.replicas, cause)
        return self._shown(await deployments.scale_deployment(command, self._context, now()))

    async def ClaimDeploymentKey(self, request: pb.ClaimDeploymentKeyRequest, call: Any) -> pb.ClaimedKey:
        command = deployments.ClaimKey(
            current().project, request.deployment, request.request_id, request_digest(request)
        )
        claim = await deployments.claim_key(command, self._context, now())
        return to.claim_message(claim, self._context.base_url())

    async def WatchDeployment(self, request: pb.WatchDeploymentRequest, call: Any) -> AsyncIterator[pb.Deployment]:
        changes = deployments.watch_deployment(
            current().project, request.deployment, request.after_version, self._context
        )
        async for deployment in changes:
            yield self._shown(deployment)

    async def ListReplicas(self, request: pb.ListReplicasRequest, call: Any) -> pb.ListReplicasResponse:
        query = PageQuery.of(request)
        page = await deployments.list_replicas(current().project, request.deployment, query, self._context)
        messages = [message_of(pb.Replica, one) for one in page.items]
        return pb.ListReplicasResponse(replicas=messages, next_page_token=page.next_page_token)

    async def GetReplica(self, request: pb.GetReplicaRequest, call: Any) -> pb.Replica:
        replica = await deployments.get_replica(current().project, request.deployment, request.replica, self._context)
        return message_of(pb.Replica, replica)

    async def ReadReplicaLogs(self, request: pb.ReadReplicaLogsRequest, call: Any) -> AsyncIterator[pb.ReplicaLogLine]:
        lines = deployments.read_logs(
            current().project, request.deployment, request.replica, request.follow, self._launcher, self._context
        )
        async for line in lines:
            yield pb.ReplicaLogLine(text=line)


class ServingInternalServicer(internal_pb2_grpc.ServingInternalServiceServicer):
    """Serve the methods that other services call; the protos say what each does."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def ResolveDeployment(
        self, request: internal_pb2.ResolveDeploymentRequest, call: Any
    ) -> internal_pb2.ResolveDeploymentResponse:
        deployment = await deployments.get_deployment(current().project, request.deployment, self._context)
        return internal_pb2.ResolveDeploymentResponse(
            deployment_id=deployment.id, model_version_id=deployment.model_version_id
        )
