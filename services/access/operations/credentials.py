"""Credentials: stored sealed, tried on request, opened for Modelry's own services only."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial

from services.access.domain.credentials import Credential, checked
from services.access.operations.audit import by, note
from services.access.operations.context import ServiceContext
from services.access.store import AccessUnit
from services.chassis.auth import Principal
from services.chassis.data import Page, PageQuery, check_etag, retry_conflicts
from services.chassis.events import Event
from services.chassis.ids import new_id
from services.chassis.objects import StoreAccess, check_rights


async def create_credential(
    caller: Principal,
    draft: Credential,
    secret_key: str,
    request_id: str,
    digest: str,
    context: ServiceContext,
    now: datetime,
) -> Credential:
    """Create the credential of a draft, which has no id and no secret yet. Raises: Invalid, AlreadyExists."""
    new = new_id("cred-")
    context.stores.refuse_local(draft.endpoint)
    sealed = context.stores.seal(new, secret_key)
    credential = checked(replace(draft, id=new, project=caller.project, sealed_secret=sealed))
    async with context.writing() as uow:
        first = await uow.claim_request(caller.project, "CreateCredential", request_id, digest, new)
        if first != new:
            return await uow.credentials.get(caller.project, first)
        await uow.credentials.add(credential)
        await _announce(uow, caller, "CreateCredential", credential, "created", now)
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
    if "endpoint" in changes:
        context.stores.refuse_local(str(changes["endpoint"]))
    async with context.writing() as uow:
        credential = await uow.credentials.get(caller.project, ref)
        check_etag("credential", ref, etag, credential.version)
        sealed = context.stores.seal(credential.id, str(changes.get("secret_key", "")))
        credential = credential.update(changes, sealed, now)
        await uow.credentials.save(credential)
        await _announce(uow, caller, "UpdateCredential", credential, "updated", now)
        await uow.commit()
    return credential


@retry_conflicts
async def delete_credential(caller: Principal, ref: str, context: ServiceContext, now: datetime) -> None:
    """Delete a credential. Raises: NotFound, WrongState."""
    async with context.writing() as uow:
        credential = await uow.credentials.get(caller.project, ref)
        credential.require_own("delete")
        await uow.credentials.delete(credential)
        await _announce(uow, caller, "DeleteCredential", credential, "deleted", now)
        await uow.commit()


async def verify_credential(
    caller: Principal, ref: str, bucket: str, prefix: str, context: ServiceContext, now: datetime
) -> dict[str, str]:
    """Try list, put, get and delete, and note it if all four are there.

    Returns: right -> "" or why it is missing. Raises: NotFound, Invalid, Denied, Unavailable, in the store's words.
    """
    credential, access, bucket = await open_credential(caller, ref, bucket, context)
    check = partial(check_rights, access, bucket, prefix)
    rights = await context.stores.foreign.run(caller.project, access, check)
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
        await _announce(uow, caller, "VerifyCredential", credential, "verified", now)
        await uow.commit()


async def open_credential(
    caller: Principal, ref: str, bucket: str, context: ServiceContext
) -> tuple[Credential, StoreAccess, str]:
    """Return a credential, the store that it opens with its secret, and the bucket of this use.

    Raises: NotFound; Invalid: it is for another bucket.
    """
    credential = await get_credential(caller, ref, context)
    bucket = credential.require_bucket(bucket)
    if credential.builtin:
        await context.stores.ensure_bucket(bucket)
    return credential, context.stores.access(credential), bucket


async def _announce(
    uow: AccessUnit, caller: Principal, method: str, credential: Credential, happening: str, now: datetime
) -> None:
    """Note a change in the audit log and tell of it, if this commits."""
    await note(uow, caller, method, credential.id, now)
    gone = happening == "deleted"
    event = Event(
        credential.project, "credential", credential.id, happening,
        state="DELETED" if gone else "ACTIVE", previous_state="" if happening == "created" else "ACTIVE",
        version=credential.version + gone, cause=by(caller), terminal=gone,
    )  # fmt: skip
    uow.emit(event)
