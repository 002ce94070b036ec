"""AccessService: projects, API keys, credentials and the audit log."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from google.protobuf.empty_pb2 import Empty

from modelry.access.v1 import access_pb2, access_pb2_grpc
from services.access.domain.keys import ApiKey
from services.access.operations import audit, credentials, keys, projects
from services.access.operations.context import ServiceContext
from services.access.operations.keys import Propagate
from services.access.service import messages
from services.chassis.auth import current
from services.chassis.clock import now
from services.chassis.data import PageQuery, request_digest
from services.chassis.errors import ModelryError
from services.chassis.proto_values import changes_of, labels_update_of

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=Callable[..., Awaitable[Any]])


def audited(method: M) -> M:
    """Note a refusal of this method in the audit log; a success is noted by its own transaction."""

    @functools.wraps(method)
    async def run(self: AccessService, request: Any, call: Any) -> Any:
        try:
            return await method(self, request, call)
        except ModelryError as error:
            await self.note_refusal(method.__name__, request, error.reason)
            raise

    return run  # type: ignore[return-value]


class AccessService(access_pb2_grpc.AccessServiceServicer):
    """The methods that people and programs call; `access.proto` says what each does, and its errors."""

    def __init__(self, context: ServiceContext, propagate: Propagate) -> None:
        self._context, self._propagate = context, propagate

    async def note_refusal(self, method: str, request: Any, reason: str) -> None:
        """Note a call that was refused; the answer does not wait for a database that is away."""
        first = request.DESCRIPTOR.fields[0]
        ref = getattr(request, first.name) if first.message_type is None else getattr(request, first.name).name
        try:
            await audit.note_refusal(current(), method, ref[:128], reason, self._context, now())
        except ModelryError as error:
            _log.warning("a refusal of %s could not be noted: %s", method, error.message)

    async def GetServerInfo(self, request: access_pb2.GetServerInfoRequest, call: Any) -> access_pb2.ServerInfo:
        caller = current()
        project = await projects.resolve_project(caller.project, self._context)
        addresses = self._context.facts.addresses()
        return access_pb2.ServerInfo(
            version=self._context.facts.version,
            http_address=addresses.get("http", ""),
            grpc_address=addresses.get("grpc", ""),
            nats_address=addresses.get("nats", ""),
            currency=self._context.facts.currency,
            project_id=project.id,
            project_name=project.name,
            role=caller.role.value,  # type: ignore[arg-type]
            bucket=project.bucket,
        )

    @audited
    async def CreateProject(self, request: access_pb2.CreateProjectRequest, call: Any) -> access_pb2.Project:
        wanted = request.project
        command = projects.CreateProject(
            wanted.name, wanted.title, dict(wanted.metadata), request.request_id, request_digest(request)
        )
        project = await projects.create_project(current(), command, self._context, now())
        await self._context.stores.try_ensure_bucket(project.bucket)
        return messages.project_message(project)

    async def GetProject(self, request: access_pb2.GetProjectRequest, call: Any) -> access_pb2.Project:
        return await self._project(request.project)

    async def _project(self, ref: str) -> access_pb2.Project:
        return messages.project_message(await projects.get_project(current(), ref, self._context))

    async def ListProjects(self, request: access_pb2.ListProjectsRequest, call: Any) -> access_pb2.ListProjectsResponse:
        page = await projects.list_projects(current(), PageQuery.of(request), self._context)
        shown = [messages.project_message(project) for project in page.items]
        return access_pb2.ListProjectsResponse(projects=shown, next_page_token=page.next_page_token)

    @audited
    async def UpdateProject(self, request: access_pb2.UpdateProjectRequest, call: Any) -> access_pb2.Project:
        command = await labels_update_of(request, self._project)
        project = await projects.update_project(current(), command, self._context, now())
        return messages.project_message(project)

    @audited
    async def CreateApiKey(self, request: access_pb2.CreateApiKeyRequest, call: Any) -> access_pb2.ApiKey:
        command, digest = messages.key_command(request.api_key), request_digest(request)
        created = await keys.create_key(current(), command, request.request_id, digest, self._context, now())
        return await self._shown(created.key, created.secret)

    async def GetApiKey(self, request: access_pb2.GetApiKeyRequest, call: Any) -> access_pb2.ApiKey:
        key = await keys.get_key(current(), request.api_key, self._context)
        unsent = await keys.unpropagated([key], self._context)
        return messages.key_message(key, now(), propagated=key.id not in unsent)

    async def ListApiKeys(self, request: access_pb2.ListApiKeysRequest, call: Any) -> access_pb2.ListApiKeysResponse:
        page = await keys.list_keys(current(), PageQuery.of(request), self._context)
        unsent = await keys.unpropagated(page.items, self._context)
        shown = [messages.key_message(key, now(), propagated=key.id not in unsent) for key in page.items]
        return access_pb2.ListApiKeysResponse(api_keys=shown, next_page_token=page.next_page_token)

    @audited
    async def RotateApiKey(self, request: access_pb2.RotateApiKeyRequest, call: Any) -> access_pb2.ApiKey:
        overlap, digest = request.overlap.ToTimedelta(), request_digest(request)
        rotated = await keys.rotate_key(
            current(), request.api_key, overlap, request.request_id, digest, self._context, now()
        )
        return await self._shown(rotated.key, rotated.secret)

    @audited
    async def RevokeApiKey(self, request: access_pb2.RevokeApiKeyRequest, call: Any) -> access_pb2.ApiKey:
        return await self._shown(await keys.revoke_key(current(), request.api_key, self._context, now()))

    async def _shown(self, key: ApiKey, secret: str = "") -> access_pb2.ApiKey:
        """Return a changed key, once gateways can know of the change."""
        return messages.key_message(key, now(), secret, await self._propagate(key))

    @audited
    async def CreateCredential(self, request: access_pb2.CreateCredentialRequest, call: Any) -> access_pb2.Credential:
        wanted = request.credential
        command = credentials.CreateCredential(
            name=wanted.name,
            access_key=wanted.access_key,
            secret_key=wanted.secret_key,
            endpoint=wanted.endpoint,
            region=wanted.region,
            bucket=wanted.bucket,
            title=wanted.title,
            metadata=dict(wanted.metadata),
            request_id=request.request_id,
            digest=request_digest(request),
        )
        return self._credential(await credentials.create_credential(current(), command, self._context, now()))

    async def GetCredential(self, request: access_pb2.GetCredentialRequest, call: Any) -> access_pb2.Credential:
        return await self._stored(request.credential)

    async def _stored(self, ref: str) -> access_pb2.Credential:
        return self._credential(await credentials.get_credential(current(), ref, self._context))

    async def ListCredentials(
        self, request: access_pb2.ListCredentialsRequest, call: Any
    ) -> access_pb2.ListCredentialsResponse:
        page = await credentials.list_credentials(current(), PageQuery.of(request), self._context)
        shown = [self._credential(credential) for credential in page.items]
        return access_pb2.ListCredentialsResponse(credentials=shown, next_page_token=page.next_page_token)

    @audited
    async def UpdateCredential(self, request: access_pb2.UpdateCredentialRequest, call: Any) -> access_pb2.Credential:
        wanted = request.credential
        ref = wanted.id or wanted.name
        changes = await changes_of(request, lambda: self._stored(ref))
        credential = await credentials.update_credential(current(), ref, changes, wanted.etag, self._context, now())
        return self._credential(credential)

    @audited
    async def DeleteCredential(self, request: access_pb2.DeleteCredentialRequest, call: Any) -> Empty:
        await credentials.delete_credential(current(), request.credential, self._context, now())
        return Empty()

    @audited
    async def VerifyCredential(
        self, request: access_pb2.VerifyCredentialRequest, call: Any
    ) -> access_pb2.VerifyCredentialResponse:
        rights = await credentials.verify_credential(
            current(), request.credential, request.bucket, request.prefix, self._context, now()
        )
        answer = access_pb2.VerifyCredentialResponse(verified=not any(rights.values()))
        for name, missing in rights.items():
            answer.rights.add(name=name, granted=not missing, message=missing)
        return answer

    async def ListAuditEntries(
        self, request: access_pb2.ListAuditEntriesRequest, call: Any
    ) -> access_pb2.ListAuditEntriesResponse:
        page = await audit.list_entries(current(), PageQuery.of(request), self._context)
        shown = [messages.audit_message(entry) for entry in page.items]
        return access_pb2.ListAuditEntriesResponse(audit_entries=shown, next_page_token=page.next_page_token)

    def _credential(self, credential: Any) -> access_pb2.Credential:
        builtin = self._context.stores.builtin
        return messages.credential_message(credential, builtin.endpoint, builtin.region)
