"""What services ask of serving: which version a deployment serves."""

from dataclasses import dataclass

from modelry.serving.v1 import internal_pb2, internal_pb2_grpc
from services.chassis.rpc import Connections


@dataclass(frozen=True, kw_only=True)
class DeploymentInfo:
    """A deployment and the model version that it serves now."""

    deployment_id: str
    model_version_id: str


class ServingClient:
    """Asks serving in the name of a project."""

    def __init__(self, connections: Connections) -> None:
        self._internal = internal_pb2_grpc.ServingInternalServiceStub(
            connections.channel("serving", internal_pb2.DESCRIPTOR)
        )
        self._metadata = connections.metadata

    async def deployment(self, project: str, deployment: str) -> DeploymentInfo:
        """One deployment, by its name or id. Raises: NotFound."""
        request = internal_pb2.ResolveDeploymentRequest(deployment=deployment)
        answer = await self._internal.ResolveDeployment(request, metadata=self._metadata(project))
        return DeploymentInfo(deployment_id=answer.deployment_id, model_version_id=answer.model_version_id)
