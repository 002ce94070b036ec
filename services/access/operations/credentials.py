"""Credentials: stored sealed, tried on request, opened for Modelry's own services only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from services.access.domain.credentials import BUILTIN, Credential, checked
from services.access.operations.audit import by, note
from services.access.operations.context import ServiceContext
from services.chassis.auth import Principal
from services.chassis.data import Page, PageQuery, check_etag, retry_conflicts
from services.chassis.events import Event
from services.chassis.ids import new_id
from services.chassis.objects import StoreAccess, check_rights


@dataclass(frozen=True)
class CreateCredential:
    """What a caller asks of a new credential."""

    name: str
    access_key: str
    secret_key: str = field(repr=False)
    endpoint: str = ""
    region: str = ""
    bucket: str = ""
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    digest: str = ""


async def create_credential(
    caller: Principal, command: CreateCredential, context: ServiceContext, now: datetime
) -> Credential:
    """Create a credential. Raises: Invalid, AlreadyExists."""
    credential_id = new_id("cred-")
    credential = checked(
        Credential(
            id=credential_id,
            project=caller.project,
            name=command.name,
            title=command.title,
            metadata=dict(command.metadata),
            endpoint=command.endpoint,
            region=command.region,
            bucket=command.bucket,
            access_key=command.access_key,
            sealed_secret=context.stores.seal(credential_id, command.secret_key),
            create_time=now,
            update_time=now,
        )
    )
    async with context.writing() as uow:
        first = await uow.claim_request(
            caller.project, "CreateCredential", command.request_id, command.digest, credential.id
        )
        if first != credential.id:
            return await uow.credentials.get(caller.project, first)
        await uow.credentials.add(credential)
        await note(uow, caller, "CreateCredential", credential.id, now)
        uow.emit(Event(caller.project, "credential", credential.id, "created", "ACTIVE", version=1, cause=by(caller)))
        await uow.commit()
    return credential


async def get_credential(caller: Principal, ref: str, context: ServiceContext) -> Credential:
    """Return one credential. Raises: NotFound."""
    async with context.reading() as uow:
        return await uow.credentials.get(caller.project, ref)


async def list_credentials(caller: Principal, page: PageQuery, context: ServiceContext) -> Page[Credential]:
    """Return the project's credentials, newest first."""
    async with context.reading() as uow:
        return await uow.credentials.list(caller.project, page)


@retry_conflicts
async def update_credential(
    caller: Principal,
    ref: str,
    changes: Mapping[str, object],
    etag: str,
    context: ServiceContext,
    now: datetime,
) -> Credential:
    """Change a credential; what opens the store must be verified again. Raises: NotFound, WrongState, Invalid."""
    async with context.writing() as uow:
        credential = await uow.credentials.get(caller.project, ref)
        check_etag("credential", ref, etag, credential.version)
        sealed = context.stores.seal(credential.id, str(changes.get("secret_key", "")))
        credential = credential.update(changes, sealed, now)
        await uow.credentials.save(credential)
        await note(uow, caller, "UpdateCredential", credential.id, now)
        uow.emit(_event(credential, "updated", by(caller)))
        await uow.commit()
    return credential


@retry_conflicts
async def delete_credential(caller: Principal, ref: str, context: ServiceContext, now: datetime) -> None:
    """Delete a credential. Raises: NotFound, WrongState."""
    async with context.writing() as uow:
        credential = await uow.credentials.get(caller.project, ref)
        credential.require_own("delete")
        await uow.credentials.delete(credential)
        await note(uow, caller, "DeleteCredential", credential.id, now)
        event = Event(
            project=credential.project,
            resource="credential",
            resource_id=credential.id,
            happening="deleted",
            state="DELETED",
            previous_state="ACTIVE",
            version=credential.version + 1,
            cause=by(caller),
            terminal=True,
        )
        uow.emit(event)
        await uow.commit()


async def verify_credential(
    caller: Principal, ref: str, bucket: str, prefix: str, context: ServiceContext, now: datetime
) -> dict[str, str]:
    """Try list, put, get and delete, and note it if all four are there.

    Returns: right -> "" or why it is missing. Raises: NotFound, Invalid, Denied, Unavailable, in the store's words.
    """
    credential = await get_credential(caller, ref, context)
    bucket = credential.require_bucket(bucket)
    if credential.builtin:
        await context.stores.ensure_bucket(bucket)
    rights = await asyncio.to_thread(check_rights, context.stores.access(credential), bucket, prefix)
    if not any(rights.values()):
        await _note_verified(caller, credential.id, context, now)
    return rights


@retry_conflicts
async def _note_verified(caller: Principal, credential_id: str, context: ServiceContext, now: datetime) -> None:
    async with context.writing() as uow:
        credential = await uow.credentials.find(caller.project, credential_id)
        if credential is None:
            return
        credential = credential.note_verified(now)
        await uow.credentials.save(credential)
        await note(uow, caller, "VerifyCredential", credential.id, now)
        uow.emit(_event(credential, "verified", by(caller)))
        await uow.commit()


async def resolve_credential(
    caller: Principal, ref: str, bucket: str, context: ServiceContext
) -> tuple[Credential, StoreAccess, str]:
    """Return a credential with its secret, and the bucket of this use, for Modelry's own services.

    Raises: NotFound; Invalid: it is for another bucket.
    """
    credential = await get_credential(caller, ref or BUILTIN, context)
    bucket = credential.require_bucket(bucket)
    if credential.builtin:
        await context.stores.ensure_bucket(bucket)
    return credential, context.stores.access(credential), bucket


def _event(credential: Credential, happening: str, cause: str) -> Event:
    project, version = credential.project, credential.version
    return Event(project, "credential", credential.id, happening, "ACTIVE", "ACTIVE", version, cause)
