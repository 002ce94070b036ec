"""AccessInternalService: what Modelry's own services ask of access."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty

from modelry.access.v1 import access_pb2, internal_pb2, internal_pb2_grpc
from services.access.operations import credentials, keys, projects
from services.access.operations.context import ServiceContext
from services.access.operations.keys import Propagate
from services.access.service import messages
from services.chassis.auth import current
from services.chassis.clock import now
from services.chassis.proto_values import message_of


class AccessInternalService(internal_pb2_grpc.AccessInternalServiceServicer):
    """The methods for Modelry's own services; the project is the caller's."""

    def __init__(self, context: ServiceContext, propagate: Propagate) -> None:
        self._context, self._propagate = context, propagate

    async def ResolveCredential(
        self, request: internal_pb2.ResolveCredentialRequest, call: Any
    ) -> internal_pb2.ResolvedCredential:
        credential, access, bucket = await credentials.resolve_credential(
            current(), request.credential, request.bucket, self._context
        )
        return message_of(internal_pb2.ResolvedCredential, access, credential_id=credential.id, bucket=bucket)

    async def IssueDeploymentKey(self, request: internal_pb2.IssueDeploymentKeyRequest, call: Any) -> access_pb2.ApiKey:
        created = await keys.issue_deployment_key(
            current(), request.deployment_id, tuple(request.models), request.name, self._context, now()
        )
        propagated = await self._propagate(created.key)
        return messages.key_message(created.key, now(), created.secret, propagated)

    async def RevokeDeploymentKey(self, request: internal_pb2.RevokeDeploymentKeyRequest, call: Any) -> Empty:
        await keys.revoke_deployment_key(current(), request.deployment_id, self._context, now())
        return Empty()

    async def ResolveProject(self, request: internal_pb2.ResolveProjectRequest, call: Any) -> access_pb2.Project:
        return message_of(access_pb2.Project, await projects.resolve_project(request.project, self._context))
