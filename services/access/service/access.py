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
from services.access.service import messages
from services.access.service.context import Parts
from services.chassis.auth import current
from services.chassis.clock import now
from services.chassis.data import request_digest
from services.chassis.errors import ModelryError
from services.chassis.proto_values import changes_of

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=Callable[..., Awaitable[Any]])


def audited(method: M) -> M:
    """Note a refusal of this method in the audit log; a success is noted by its own transaction."""

    @functools.wraps(method)
    async def run(self: AccessService, request: Any, context: Any) -> Any:
        try:
            return await method(self, request, context)
        except ModelryError as error:
            await self.note_refusal(method.__name__, request, error.reason)
            raise

    return run  # type: ignore[return-value]


class AccessService(access_pb2_grpc.AccessServiceServicer):
    """The methods that people and programs call; `access.proto` says what each does, and its errors."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def note_refusal(self, method: str, request: Any, reason: str) -> None:
        """Note a call that was refused; the answer does not wait for a database that is away."""
        first = request.DESCRIPTOR.fields[0]
        ref = getattr(request, first.name) if first.message_type is None else getattr(request, first.name).name
        try:
            await audit.note_refusal(current(), method, ref[:128], reason, self._parts.write(), now())
        except ModelryError as error:
            _log.warning("a refusal of %s could not be noted: %s", method, error.message)

    async def GetServerInfo(self, request: access_pb2.GetServerInfoRequest, context: Any) -> access_pb2.ServerInfo:
        caller = current()
        project = await projects.resolve_project(caller.project, self._parts.read())
        addresses = self._parts.facts.addresses()
        return access_pb2.ServerInfo(
            version=self._parts.facts.version,
            http_address=addresses.get("http", ""),
            grpc_address=addresses.get("grpc", ""),
            nats_address=addresses.get("nats", ""),
            currency=self._parts.facts.currency,
            project_id=project.id,
            project_name=project.name,
            role=caller.role.value,  # type: ignore[arg-type]
            bucket=project.bucket,
        )

    @audited
    async def CreateProject(self, request: access_pb2.CreateProjectRequest, context: Any) -> access_pb2.Project:
        wish = request.project
        cmd = projects.CreateProject(
            wish.name, wish.title, dict(wish.metadata), request.request_id, request_digest(request)
        )
        project = await projects.create_project(current(), cmd, self._parts.write(), now())
        await self._parts.stores.try_ensure_bucket(project.bucket)
        return messages.project_message(project)

    async def GetProject(self, request: access_pb2.GetProjectRequest, context: Any) -> access_pb2.Project:
        return await self._project(request.project)

    async def _project(self, ref: str) -> access_pb2.Project:
        return messages.project_message(await projects.get_project(current(), ref, self._parts.read()))

    async def ListProjects(
        self, request: access_pb2.ListProjectsRequest, context: Any
    ) -> access_pb2.ListProjectsResponse:
        page = await projects.list_projects(current(), messages.page_query(request), self._parts.read())
        shown = [messages.project_message(project) for project in page.items]
        return access_pb2.ListProjectsResponse(projects=shown, next_page_token=page.next_page_token)

    @audited
    async def UpdateProject(self, request: access_pb2.UpdateProjectRequest, context: Any) -> access_pb2.Project:
        wish = request.project
        ref = wish.id or wish.name
        changes = await changes_of(request, lambda: self._project(ref))
        project = await projects.update_project(current(), ref, changes, wish.etag, self._parts.write(), now())
        return messages.project_message(project)

    @audited
    async def CreateApiKey(self, request: access_pb2.CreateApiKeyRequest, context: Any) -> access_pb2.ApiKey:
        wish, digest = messages.key_wish(request.api_key), request_digest(request)
        made = await keys.create_key(current(), wish, request.request_id, digest, self._parts.write(), now())
        return await self._shown(made.key, made.secret)

    async def GetApiKey(self, request: access_pb2.GetApiKeyRequest, context: Any) -> access_pb2.ApiKey:
        key = await keys.get_key(current(), request.api_key, self._parts.read())
        unsent = await keys.unpropagated([key], self._parts.read())
        return messages.key_message(key, now(), propagated=key.id not in unsent)

    async def ListApiKeys(self, request: access_pb2.ListApiKeysRequest, context: Any) -> access_pb2.ListApiKeysResponse:
        page = await keys.list_keys(current(), messages.page_query(request), self._parts.read())
        unsent = await keys.unpropagated(page.items, self._parts.read())
        shown = [messages.key_message(key, now(), propagated=key.id not in unsent) for key in page.items]
        return access_pb2.ListApiKeysResponse(api_keys=shown, next_page_token=page.next_page_token)

    @audited
    async def RotateApiKey(self, request: access_pb2.RotateApiKeyRequest, context: Any) -> access_pb2.ApiKey:
        overlap, digest = request.overlap.ToTimedelta(), request_digest(request)
        made = await keys.rotate_key(
            current(), request.api_key, overlap, request.request_id, digest, self._parts.write(), now()
        )
        return await self._shown(made.key, made.secret)

    @audited
    async def RevokeApiKey(self, request: access_pb2.RevokeApiKeyRequest, context: Any) -> access_pb2.ApiKey:
        return await self._shown(await keys.revoke_key(current(), request.api_key, self._parts.write(), now()))

    async def _shown(self, key: ApiKey, secret: str = "") -> access_pb2.ApiKey:
        """A changed key, once gateways can know of the change."""
        return messages.key_message(key, now(), secret, await self._parts.propagate(key))

    @audited
    async def CreateCredential(
        self, request: access_pb2.CreateCredentialRequest, context: Any
    ) -> access_pb2.Credential:
        wish = request.credential
        cmd = credentials.CreateCredential(
            name=wish.name,
            access_key=wish.access_key,
            secret_key=wish.secret_key,
            endpoint=wish.endpoint,
            region=wish.region,
            bucket=wish.bucket,
            title=wish.title,
            metadata=dict(wish.metadata),
            request_id=request.request_id,
            digest=request_digest(request),
        )
        parts = self._parts
        return self._credential(await credentials.create_credential(current(), cmd, parts.stores, parts.write(), now()))

    async def GetCredential(self, request: access_pb2.GetCredentialRequest, context: Any) -> access_pb2.Credential:
        return await self._stored(request.credential)

    async def _stored(self, ref: str) -> access_pb2.Credential:
        return self._credential(await credentials.get_credential(current(), ref, self._parts.read()))

    async def ListCredentials(
        self, request: access_pb2.ListCredentialsRequest, context: Any
    ) -> access_pb2.ListCredentialsResponse:
        page = await credentials.list_credentials(current(), messages.page_query(request), self._parts.read())
        shown = [self._credential(credential) for credential in page.items]
        return access_pb2.ListCredentialsResponse(credentials=shown, next_page_token=page.next_page_token)

    @audited
    async def UpdateCredential(
        self, request: access_pb2.UpdateCredentialRequest, context: Any
    ) -> access_pb2.Credential:
        wish, parts = request.credential, self._parts
        ref = wish.id or wish.name
        changes = await changes_of(request, lambda: self._stored(ref))
        credential = await credentials.update_credential(
            current(), ref, changes, wish.etag, parts.stores, parts.write(), now()
        )
        return self._credential(credential)

    @audited
    async def DeleteCredential(self, request: access_pb2.DeleteCredentialRequest, context: Any) -> Empty:
        await credentials.delete_credential(current(), request.credential, self._parts.write(), now())
        return Empty()

    @audited
    async def VerifyCredential(
        self, request: access_pb2.VerifyCredentialRequest, context: Any
    ) -> access_pb2.VerifyCredentialResponse:
        parts = self._parts
        rights = await credentials.verify_credential(
            current(), request.credential, request.bucket, request.prefix, parts.stores, parts.write(), now()
        )
        answer = access_pb2.VerifyCredentialResponse(verified=not any(rights.values()))
        for name, missing in rights.items():
            answer.rights.add(name=name, granted=not missing, message=missing)
        return answer

    async def ListAuditEntries(
        self, request: access_pb2.ListAuditEntriesRequest, context: Any
    ) -> access_pb2.ListAuditEntriesResponse:
        page = await audit.list_entries(current(), messages.page_query(request), self._parts.read())
        shown = [messages.audit_message(entry) for entry in page.items]
        return access_pb2.ListAuditEntriesResponse(audit_entries=shown, next_page_token=page.next_page_token)

    def _credential(self, credential: Any) -> access_pb2.Credential:
        builtin = self._parts.stores.builtin
        return messages.credential_message(credential, builtin.endpoint, builtin.region)
