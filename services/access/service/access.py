"""AccessService and AccessInternalService: projects, API keys, credentials and the audit log."""

from datetime import datetime
from typing import Any

from google.protobuf.empty_pb2 import Empty

from modelry.access.v1 import access_pb2 as pb
from modelry.access.v1 import access_pb2_grpc, internal_pb2, internal_pb2_grpc
from services.access.domain.credentials import BUILTIN, Credential
from services.access.domain.keys import ApiKey, CreateKey, KeyRole
from services.access.operations import audit, credentials, keys, projects
from services.access.operations.context import ServiceContext
from services.access.operations.keys import Propagate
from services.access.service.auditing import audited
from services.chassis.auth import current
from services.chassis.clock import now
from services.chassis.data import PageQuery, request_digest
from services.chassis.errors import Invalid
from services.chassis.proto_values import (
    changes_of,
    creation_of,
    datetime_of,
    labels_update_of,
    message_of,
    page_message,
    value_of,
)


class AccessService(access_pb2_grpc.AccessServiceServicer):
    """The methods that people and programs call; `access.proto` says what each does, and its errors."""

    def __init__(self, context: ServiceContext, propagate: Propagate) -> None:
        self._context, self._propagate = context, propagate

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, call: Any) -> pb.ServerInfo:
        caller = current()
        project = await projects.resolve_project(caller.project, self._context)
        facts = self._context.facts
        addresses = facts.addresses()
        doors = {f"{door}_address": addresses.get(door, "") for door in ("http", "grpc", "nats")}
        identity = {"project_id": project.id, "project_name": project.name, "bucket": project.bucket}
        return message_of(pb.ServerInfo, facts, role=caller.role, **doors, **identity)

    @audited
    async def CreateProject(self, request: pb.CreateProjectRequest, call: Any) -> pb.Project:
        command = creation_of(request, request_digest(request))
        project = await projects.create_project(current(), command, self._context, now())
        await self._context.stores.try_ensure_bucket(project.bucket)
        return message_of(pb.Project, project)

    async def GetProject(self, request: pb.GetProjectRequest, call: Any) -> pb.Project:
        return await self._project(request.project)

    async def _project(self, ref: str) -> pb.Project:
        return message_of(pb.Project, await projects.get_project(current(), ref, self._context))

    async def ListProjects(self, request: pb.ListProjectsRequest, call: Any) -> pb.ListProjectsResponse:
        page = await projects.list_projects(current(), PageQuery.of(request), self._context)
        return page_message(pb.ListProjectsResponse, page)

    @audited
    async def UpdateProject(self, request: pb.UpdateProjectRequest, call: Any) -> pb.Project:
        command = await labels_update_of(request, self._project)
        project = await projects.update_project(current(), command, self._context, now())
        return message_of(pb.Project, project)

    @audited
    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, call: Any) -> pb.ApiKey:
        command, digest = _key_command(request.api_key), request_digest(request)
        created = await keys.create_key(current(), command, request.request_id, digest, self._context, now())
        return await self._shown(created.key, created.secret)

    async def GetApiKey(self, request: pb.GetApiKeyRequest, call: Any) -> pb.ApiKey:
        key = await keys.get_key(current(), request.api_key, self._context)
        unsent = await keys.unpropagated([key], self._context)
        return _key_message(key, now(), propagated=key.id not in unsent)

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, call: Any) -> pb.ListApiKeysResponse:
        page = await keys.list_keys(current(), PageQuery.of(request), self._context)
        unsent = await keys.unpropagated(page.items, self._context)

        def shown(key: ApiKey) -> pb.ApiKey:
            return _key_message(key, now(), propagated=key.id not in unsent)

        return page_message(pb.ListApiKeysResponse, page, shown)

    @audited
    async def RotateApiKey(self, request: pb.RotateApiKeyRequest, call: Any) -> pb.ApiKey:
        overlap, digest = request.overlap.ToTimedelta(), request_digest(request)
        rotated = await keys.rotate_key(
            current(), request.api_key, overlap, request.request_id, digest, self._context, now()
        )
        return await self._shown(rotated.key, rotated.secret)

    @audited
    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, call: Any) -> pb.ApiKey:
        return await self._shown(await keys.revoke_key(current(), request.api_key, self._context, now()))

    async def _shown(self, key: ApiKey, secret: str = "") -> pb.ApiKey:
        """Return a changed key, once gateways can know of the change."""
        return _key_message(key, now(), secret, await self._propagate(key))

    @audited
    async def CreateCredential(self, request: pb.CreateCredentialRequest, call: Any) -> pb.Credential:
        wanted, caller, moment = request.credential, current(), now()
        given = {"id": "", "project": caller.project, "create_time": moment, "update_time": moment}
        draft = value_of(Credential, wanted, **given)
        digest, context = request_digest(request), self._context
        credential = await credentials.create_credential(
            caller, draft, wanted.secret_key, request.request_id, digest, context, moment
        )
        return self._credential(credential)

    async def GetCredential(self, request: pb.GetCredentialRequest, call: Any) -> pb.Credential:
        return await self._stored(request.credential)

    async def _stored(self, ref: str) -> pb.Credential:
        return self._credential(await credentials.get_credential(current(), ref, self._context))

    async def ListCredentials(self, request: pb.ListCredentialsRequest, call: Any) -> pb.ListCredentialsResponse:
        page = await credentials.list_credentials(current(), PageQuery.of(request), self._context)
        return page_message(pb.ListCredentialsResponse, page, self._credential)

    @audited
    async def UpdateCredential(self, request: pb.UpdateCredentialRequest, call: Any) -> pb.Credential:
        wanted = request.credential
        ref = wanted.id or wanted.name
        changes = await changes_of(request, lambda: self._stored(ref))
        credential = await credentials.update_credential(current(), ref, changes, wanted.etag, self._context, now())
        return self._credential(credential)

    @audited
    async def DeleteCredential(self, request: pb.DeleteCredentialRequest, call: Any) -> Empty:
        await credentials.delete_credential(current(), request.credential, self._context, now())
        return Empty()

    @audited
    async def VerifyCredential(self, request: pb.VerifyCredentialRequest, call: Any) -> pb.VerifyCredentialResponse:
        rights = await credentials.verify_credential(
            current(), request.credential, request.bucket, request.prefix, self._context, now()
        )
        answer = pb.VerifyCredentialResponse(verified=not any(rights.values()))
        for name, missing in rights.items():
            answer.rights.add(name=name, granted=not missing, message=missing)
        return answer

    async def ListAuditEntries(self, request: pb.ListAuditEntriesRequest, call: Any) -> pb.ListAuditEntriesResponse:
        page = await audit.list_entries(current(), PageQuery.of(request), self._context)
        return page_message(pb.ListAuditEntriesResponse, page)

    def _credential(self, credential: Credential) -> pb.Credential:
        """Return a credential as callers see it: without its secret; the address of `builtin` is a setting."""
        place = self._context.stores.builtin if credential.builtin else credential
        return message_of(pb.Credential, credential, endpoint=place.endpoint, region=place.region, secret_key="")


class AccessInternalService(internal_pb2_grpc.AccessInternalServiceServicer):
    """The methods for Modelry's own services; the project is the caller's."""

    def __init__(self, context: ServiceContext, propagate: Propagate) -> None:
        self._context, self._propagate = context, propagate

    async def ResolveCredential(
        self, request: internal_pb2.ResolveCredentialRequest, call: Any
    ) -> internal_pb2.ResolvedCredential:
        credential, access, bucket = await credentials.open_credential(
            current(), request.credential or BUILTIN, request.bucket, self._context
        )
        return message_of(internal_pb2.ResolvedCredential, access, credential_id=credential.id, bucket=bucket)

    async def IssueDeploymentKey(self, request: internal_pb2.IssueDeploymentKeyRequest, call: Any) -> pb.ApiKey:
        created = await keys.issue_deployment_key(
            current(), request.deployment_id, tuple(request.models), request.name, self._context, now()
        )
        return _key_message(created.key, now(), created.secret, await self._propagate(created.key))

    async def RevokeDeploymentKey(self, request: internal_pb2.RevokeDeploymentKeyRequest, call: Any) -> Empty:
        await keys.revoke_deployment_key(current(), request.deployment_id, self._context, now())
        return Empty()

    async def ResolveProject(self, request: internal_pb2.ResolveProjectRequest, call: Any) -> pb.Project:
        return message_of(pb.Project, await projects.resolve_project(request.project, self._context))


def _key_command(message: pb.ApiKey) -> CreateKey:
    """Return what a caller asks of a new key. Raises: Invalid: it would be another project's."""
    if message.project_id not in ("", current().project):
        words = "api_key.project_id is another project; a key belongs to the project of the call that makes it."
        raise Invalid(words, field="api_key.project_id")
    expires = message.HasField("expire_time")
    expire_time = datetime_of(message.expire_time, "api_key.expire_time") if expires else None
    return value_of(CreateKey, message, role=_role_of(message.role), expire_time=expire_time, deployment_id="")


def _role_of(number: int) -> KeyRole:
    """Return a role of the protos; unset is INFERENCE. Raises: Invalid."""
    try:
        return KeyRole(number) if number else KeyRole.INFERENCE
    except ValueError as error:
        names = ", ".join(role.name for role in KeyRole)
        raise Invalid(f"api_key.role {number} is no role; there are {names}.", field="api_key.role") from error


def _key_message(key: ApiKey, now: datetime, secret: str = "", propagated: bool = False) -> pb.ApiKey:
    """Return a key as callers see it; its secret only in the answer that made it."""
    project, state = "" if key.role is KeyRole.ADMIN else key.project, key.shown_state(now)
    return message_of(pb.ApiKey, key, project_id=project, state=state, secret=secret, propagated=propagated)
