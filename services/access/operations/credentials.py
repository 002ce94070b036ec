"""Credentials: stored sealed, tried on request, opened for Modelry's own services only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from services.access.domain.credentials import BUILTIN, Credential, checked
from services.access.operations.audit import by, note
from services.access.store import AccessUnit
from services.chassis.auth import Principal
from services.chassis.data import Page, PageQuery, check_etag, retry_conflicts
from services.chassis.errors import Invalid, ModelryError, WrongState
from services.chassis.events import Event
from services.chassis.ids import new_id
from services.chassis.objects import ObjectStore, StoreAccess, check_rights
from services.chassis.vault import Sealed, Vault

_log = logging.getLogger(__name__)
_LONGEST_SECRET = 1024


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


class Stores:
    """The installation's own store, and the seal on the secrets of the others."""

    def __init__(self, builtin: StoreAccess, vault: Vault) -> None:
        self.builtin = builtin
        self._vault = vault
        self._ensured: set[str] = set()

    def seal(self, credential_id: str, secret: str) -> str:
        """A secret as it is stored. Raises: Invalid: it cannot be one."""
        if len(secret) > _LONGEST_SECRET:
            message = f"credential.secret_key has over {_LONGEST_SECRET} characters."
            raise Invalid(message, field="credential.secret_key")
        return self._vault.seal(secret, f"credential/{credential_id}") if secret else ""

    def access(self, credential: Credential) -> StoreAccess:
        """How to reach the store of a credential, with its secret. Raises: WrongState: its seal does not open."""
        if credential.builtin:
            return self.builtin
        try:
            secret = self._vault.open(credential.sealed_secret, f"credential/{credential.id}")
        except Sealed as error:
            _log.error("the secret of %s does not open: %s", credential.id, error)
            raise WrongState(
                f"The secret of the credential {credential.name!r} was stored with another installation's key. "
                "Update the credential with its secret.",
                reason="SECRET_SEALED",
            ) from error
        return StoreAccess(credential.endpoint, credential.access_key, secret, credential.region)

    async def ensure_bucket(self, bucket: str) -> None:
        """Make a project's bucket on the installation's store, unless this process has seen it already."""
        if bucket in self._ensured or not self.builtin.access_key:
            return
        await asyncio.to_thread(self._make_bucket, bucket)
        self._ensured.add(bucket)

    def _make_bucket(self, bucket: str) -> None:
        ObjectStore(self.builtin).ensure_bucket(bucket)

    async def try_ensure_bucket(self, bucket: str) -> None:
        """The same, where a store that is away may wait: it is tried again later."""
        try:
            await self.ensure_bucket(bucket)
        except ModelryError as error:
            _log.warning("the bucket %s is not made yet: %s", bucket, error.message)


async def create_credential(
    caller: Principal, cmd: CreateCredential, stores: Stores, uow: AccessUnit, now: datetime
) -> Credential:
    """Store access to a store. Raises: Invalid, AlreadyExists."""
    credential_id = new_id("cred-")
    credential = checked(
        Credential(
            id=credential_id,
            project=caller.project,
            name=cmd.name,
            title=cmd.title,
            metadata=dict(cmd.metadata),
            endpoint=cmd.endpoint,
            region=cmd.region,
            bucket=cmd.bucket,
            access_key=cmd.access_key,
            sealed_secret=stores.seal(credential_id, cmd.secret_key),
            create_time=now,
            update_time=now,
        )
    )
    async with uow:
        first = await uow.claim_request(caller.project, "CreateCredential", cmd.request_id, cmd.digest, credential.id)
        if first != credential.id:
            return await uow.credentials.get(caller.project, first)
        await uow.credentials.add(credential)
        await note(uow, caller, "CreateCredential", credential.id, now)
        uow.emit(Event(caller.project, "credential", credential.id, "created", "ACTIVE", version=1, cause=by(caller)))
        await uow.commit()
    return credential


async def get_credential(caller: Principal, ref: str, uow: AccessUnit) -> Credential:
    """One credential. Raises: NotFound."""
    async with uow:
        return await uow.credentials.get(caller.project, ref)


async def list_credentials(caller: Principal, page: PageQuery, uow: AccessUnit) -> Page[Credential]:
    """The project's credentials, newest first."""
    async with uow:
        return await uow.credentials.list(caller.project, page)


@retry_conflicts
async def update_credential(
    caller: Principal,
    ref: str,
    changes: Mapping[str, object],
    etag: str,
    stores: Stores,
    uow: AccessUnit,
    now: datetime,
) -> Credential:
    """Change a credential; what opens the store must be verified again. Raises: NotFound, WrongState, Invalid."""
    async with uow:
        credential = await uow.credentials.get(caller.project, ref)
        check_etag("credential", ref, etag, credential.version)
        sealed = stores.seal(credential.id, str(changes.get("secret_key", "")))
        credential = credential.update(changes, sealed, now)
        await uow.credentials.save(credential)
        await note(uow, caller, "UpdateCredential", credential.id, now)
        uow.emit(_event(credential, "updated", by(caller)))
        await uow.commit()
    return credential


@retry_conflicts
async def delete_credential(caller: Principal, ref: str, uow: AccessUnit, now: datetime) -> None:
    """Delete a credential. Raises: NotFound, WrongState."""
    async with uow:
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
    caller: Principal, ref: str, bucket: str, prefix: str, stores: Stores, uow: AccessUnit, now: datetime
) -> dict[str, str]:
    """Try list, put, get and delete, and note it if all four are there.

    Returns: right -> "" or why it is missing. Raises: NotFound, Invalid, Denied, Unavailable, in the store's words.
    """
    credential = await get_credential(caller, ref, uow)
    bucket = credential.require_bucket(bucket)
    if credential.builtin:
        await stores.ensure_bucket(bucket)
    rights = await asyncio.to_thread(check_rights, stores.access(credential), bucket, prefix)
    if not any(rights.values()):
        await _note_verified(caller, credential.id, uow, now)
    return rights


@retry_conflicts
async def _note_verified(caller: Principal, credential_id: str, uow: AccessUnit, now: datetime) -> None:
    async with uow:
        credential = await uow.credentials.find(caller.project, credential_id)
        if credential is None:
            return
        credential = credential.note_verified(now)
        await uow.credentials.save(credential)
        await note(uow, caller, "VerifyCredential", credential.id, now)
        uow.emit(_event(credential, "verified", by(caller)))
        await uow.commit()


async def resolve_credential(
    caller: Principal, ref: str, bucket: str, stores: Stores, uow: AccessUnit
) -> tuple[Credential, StoreAccess, str]:
    """A credential with its secret, and the bucket of this use, for Modelry's own services.

    Raises: NotFound; Invalid: it is for another bucket.
    """
    credential = await get_credential(caller, ref or BUILTIN, uow)
    bucket = credential.require_bucket(bucket)
    if credential.builtin:
        await stores.ensure_bucket(bucket)
    return credential, stores.access(credential), bucket


def _event(credential: Credential, happening: str, cause: str) -> Event:
    project, version = credential.project, credential.version
    return Event(project, "credential", credential.id, happening, "ACTIVE", "ACTIVE", version, cause)
