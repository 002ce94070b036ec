"""AccessInternalService: what Modelry's own services ask of access."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty

from modelry.access.v1 import access_pb2, internal_pb2, internal_pb2_grpc
from services.access.operations import credentials, keys, projects
from services.access.service import messages
from services.access.service.context import ServiceContext
from services.chassis.auth import current
from services.chassis.clock import now


class AccessInternalService(internal_pb2_grpc.AccessInternalServiceServicer):
    """Not offered at the doors; the project is the caller's."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def ResolveCredential(
        self, request: internal_pb2.ResolveCredentialRequest, context: Any
    ) -> internal_pb2.ResolvedCredential:
        context = self._context
        credential, access, bucket = await credentials.resolve_credential(
            current(), request.credential, request.bucket, context.stores, context.read()
        )
        return internal_pb2.ResolvedCredential(
            credential_id=credential.id,
            endpoint=access.endpoint,
            region=access.region,
            access_key=access.access_key,
            secret_key=access.secret_key,
            bucket=bucket,
        )

    async def IssueDeploymentKey(
        self, request: internal_pb2.IssueDeploymentKeyRequest, context: Any
    ) -> access_pb2.ApiKey:
        made = await keys.issue_deployment_key(
            current(), request.deployment_id, tuple(request.models), request.name, self._context.write(), now()
        )
        propagated = await self._context.propagate(made.key)
        return messages.key_message(made.key, now(), made.secret, propagated)

    async def RevokeDeploymentKey(self, request: internal_pb2.RevokeDeploymentKeyRequest, context: Any) -> Empty:
        await keys.revoke_deployment_key(current(), request.deployment_id, self._context.write(), now())
        return Empty()

    async def ResolveProject(self, request: internal_pb2.ResolveProjectRequest, context: Any) -> access_pb2.Project:
        return messages.project_message(await projects.resolve_project(request.project, self._context.read()))
