"""gRPC methods: message -> use case -> message."""

from __future__ import annotations

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
from services.chassis.proto_values import changes_of
from services.serving import messages as to
from services.serving.domain import Deployment
from services.serving.operations import create_deployment, deployments, logs
from services.serving.operations.context import Desk


class ServingServicer(serving_pb2_grpc.ServingServiceServicer):
    """What the doors offer."""

    def __init__(self, desk: Desk, launcher: Launcher) -> None:
        self._desk, self._launcher = desk, launcher

    def _shown(self, deployment: Deployment) -> pb.Deployment:
        return to.deployment_message(deployment, self._desk.base_url())

    async def CreateDeployment(self, request: pb.CreateDeploymentRequest, context: Any) -> pb.Deployment:
        """Makes a deployment."""
        made = await create_deployment.create_deployment(self._desk, current(), to.wish_of(request), now())
        return self._shown(made)

    async def QuoteDeployment(self, request: pb.CreateDeploymentRequest, context: Any) -> common_pb2.Quote:
        """Says what it would cost."""
        return await create_deployment.quote_deployment(self._desk, current(), to.wish_of(request))

    async def GetDeployment(self, request: pb.GetDeploymentRequest, context: Any) -> pb.Deployment:
        """One deployment."""
        return await self._get(request.deployment)

    async def _get(self, ref: str) -> pb.Deployment:
        return self._shown(await deployments.get_deployment(self._desk, current().project, ref))

    async def ListDeployments(self, request: pb.ListDeploymentsRequest, context: Any) -> pb.ListDeploymentsResponse:
        """A page of deployments."""
        query = PageQuery(request.page_size, request.page_token, request.filter, request.order_by)
        page = await deployments.list_deployments(self._desk, current().project, query)
        found = [self._shown(one) for one in page.items]
        return pb.ListDeploymentsResponse(deployments=found, next_page_token=page.next_page_token)

    async def UpdateDeployment(self, request: pb.UpdateDeploymentRequest, context: Any) -> pb.Deployment:
        """Changes title or metadata."""
        wanted = request.deployment
        ref = wanted.id or wanted.name
        changes = await changes_of(request, lambda: self._get(ref))
        command = deployments.Update(
            current().project,
            ref,
            changes.get("title"),
            changes.get("metadata"),
            wanted.etag,
        )
        return self._shown(await deployments.update_deployment(self._desk, command, now()))

    async def DeleteDeployment(self, request: pb.DeleteDeploymentRequest, context: Any) -> Empty:
        """Drains, ends and deletes."""
        await deployments.delete_deployment(self._desk, current().project, request.deployment, now())
        return Empty()

    async def ScaleDeployment(self, request: pb.ScaleDeploymentRequest, context: Any) -> pb.Deployment:
        """Sets the wanted replicas."""
        if not request.HasField("replicas"):
            raise Invalid("replicas is required.", field="replicas", reason="REQUIRED_FIELD")
        caller = current()
        cause = f"scaled to {request.replicas} by {caller.subject or caller.key_id}"
        scaled = await deployments.scale_deployment(
            self._desk, caller.project, request.deployment, request.replicas, cause, now()
        )
        return self._shown(scaled)

    async def ClaimDeploymentKey(self, request: pb.ClaimDeploymentKeyRequest, context: Any) -> pb.ClaimedKey:
        """Makes the key and shows it once."""
        claim = await deployments.claim_key(
            self._desk, current().project, request.deployment, request.request_id, request_digest(request), now()
        )
        return to.claim_message(claim, self._desk.base_url())

    async def WatchDeployment(self, request: pb.WatchDeploymentRequest, context: Any) -> AsyncIterator[pb.Deployment]:
        """A deployment as it changes."""
        changes = deployments.watch_deployment(self._desk, current().project, request.deployment, request.after_version)
        async for deployment in changes:
            yield self._shown(deployment)

    async def ListReplicas(self, request: pb.ListReplicasRequest, context: Any) -> pb.ListReplicasResponse:
        """Replicas of a deployment."""
        query = PageQuery(request.page_size, request.page_token)
        page = await deployments.list_replicas(self._desk, current().project, request.deployment, query)
        found = [to.replica_message(one) for one in page.items]
        return pb.ListReplicasResponse(replicas=found, next_page_token=page.next_page_token)

    async def GetReplica(self, request: pb.GetReplicaRequest, context: Any) -> pb.Replica:
        """One replica."""
        found = await deployments.get_replica(self._desk, current().project, request.deployment, request.replica)
        return to.replica_message(found)

    async def ReadReplicaLogs(
        self, request: pb.ReadReplicaLogsRequest, context: Any
    ) -> AsyncIterator[pb.ReplicaLogLine]:
        """The log of a replica."""
        lines = logs.read_logs(
            self._desk, self._launcher, current().project, request.deployment, request.replica, request.follow
        )
        async for line in lines:
            yield pb.ReplicaLogLine(text=line)


class ServingInternalServicer(internal_pb2_grpc.ServingInternalServiceServicer):
    """What other services ask."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def ResolveDeployment(
        self, request: internal_pb2.ResolveDeploymentRequest, context: Any
    ) -> internal_pb2.ResolveDeploymentResponse:
        """Which version a deployment serves."""
        found = await deployments.get_deployment(self._desk, current().project, request.deployment)
        return internal_pb2.ResolveDeploymentResponse(deployment_id=found.id, model_version_id=found.model_version_id)
