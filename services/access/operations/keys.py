"""API keys: made, rotated, revoked; and the records by which gateways know them."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any

from services.access.domain.keys import EXPIRE, REVOKE, ApiKey, CreateKey, KeyRole, KeyState, Secret, new_secret
from services.access.domain.projects import DEFAULT_ID
from services.access.operations import admin_keys
from services.access.operations.audit import by, note
from services.access.operations.context import ServiceContext
from services.access.store import KEYS, AccessUnit
from services.chassis.auth import Principal, Role
from services.chassis.data import Page, PageQuery, retry_conflicts
from services.chassis.errors import AlreadyExists, NotFound
from services.chassis.events import Event, Record
from services.chassis.ids import new_id
from services.clients.records import KEY_BUCKET, KeyRecord

Propagate = Callable[[ApiKey], Awaitable[bool]]
"""Wait until gateways can know of a key's change; false if that takes too long."""


@dataclass(frozen=True)
class Shown:
    """A key with its secret, which exists in this one answer only; empty in a repeated one."""

    key: ApiKey
    secret: str = ""


async def create_key(
    caller: Principal, command: CreateKey, request_id: str, digest: str, context: ServiceContext, now: datetime
) -> Shown:
    """Create a key. Raises: Invalid, Denied (a role above the caller's), AlreadyExists."""
    secret = new_secret()
    # An admin key belongs to no project. It is kept with the default one, where only admins see it.
    home = DEFAULT_ID if command.role is KeyRole.ADMIN else caller.project
    key = command.make(new_id("key-"), home, secret, now)
    key.require_reach(caller.role)
    async with context.writing() as uow:
        first = await uow.claim_request(caller.project, "CreateApiKey", request_id, digest, key.id)
        if first != key.id:
            return Shown(await uow.keys.get(home, first))
        await save_key(uow, key, "created", None, by(caller))
        await note(uow, caller, "CreateApiKey", key.id, now)
        await uow.commit()
    return Shown(key, secret)


@retry_conflicts
async def rotate_key(
    caller: Principal,
    ref: str,
    overlap: timedelta,
    request_id: str,
    digest: str,
    context: ServiceContext,
    now: datetime,
) -> Shown:
    """Give a key a new secret; the old one works for `overlap` more. Raises: NotFound, WrongState, Denied."""
    secret = new_secret()
    async with context.writing() as uow:
        key = await _visible(uow, caller, ref)
        key.require_reach(caller.role)
        claim = f"{key.id}/{new_id('')}"
        if claim != await uow.claim_request(caller.project, "RotateApiKey", request_id, digest, claim):
            return Shown(key)
        key = key.rotate(secret, overlap, now)
        await save_key(uow, key, "rotated", KeyState.ACTIVE, by(caller))
        await note(uow, caller, "RotateApiKey", key.id, now)
        await uow.commit()
    return Shown(key, secret)


@retry_conflicts
async def revoke_key(caller: Principal, ref: str, context: ServiceContext, now: datetime) -> ApiKey:
    """End a key for good. A revoked one is returned as it is. Raises: NotFound, Denied, WrongState (the last admin)."""
    async with context.writing() as uow:
        key = await _visible(uow, caller, ref)
        key.require_reach(caller.role)
        if key.role is KeyRole.ADMIN and key.state is not KeyState.REVOKED:
            await admin_keys.require_another(uow, key)
        return await _revoke(uow, caller, key, "RevokeApiKey", now)


async def issue_deployment_key(
    caller: Principal, deployment_id: str, models: tuple[str, ...], name: str, context: ServiceContext, now: datetime
) -> Shown:
    """Make the key of a deployment, or find the one that was made: then without its secret."""
    for candidate in (name or deployment_id.replace("_", "-"), deployment_id, new_id("key-")):
        secret = new_secret()
        command = CreateKey(candidate, KeyRole.INFERENCE, models=models, deployment_id=deployment_id)
        key = command.make(new_id("key-"), caller.project, secret, now)
        try:
            async with context.writing() as uow:
                known = await _of_deployment(uow, caller.project, deployment_id)
                if known is not None:
                    return Shown(known)
                await save_key(uow, key, "created", None, by(caller))
                await note(uow, caller, "IssueDeploymentKey", key.id, now)
                await uow.commit()
        except AlreadyExists:  # another key has the name, or the same call was faster
            continue
        return Shown(key, secret)
    raise AlreadyExists(f"The names for the key of {deployment_id!r} are taken.", metadata={"name": name})


@retry_conflicts
async def revoke_deployment_key(caller: Principal, deployment_id: str, context: ServiceContext, now: datetime) -> None:
    """End the key of a deployment, if there is one."""
    async with context.writing() as uow:
        key = await _of_deployment(uow, caller.project, deployment_id)
        if key is not None:
            await _revoke(uow, caller, key, "RevokeDeploymentKey", now)


async def _revoke(uow: AccessUnit, caller: Principal, key: ApiKey, method: str, now: datetime) -> ApiKey:
    if key.state is KeyState.REVOKED:
        return key
    revoked = key.apply(REVOKE, now)
    await save_key(uow, revoked, "revoked", key.state, by(caller))
    await note(uow, caller, method, key.id, now)
    await uow.commit()
    return revoked


async def get_key(caller: Principal, ref: str, context: ServiceContext) -> ApiKey:
    """Return one key. Raises: NotFound."""
    async with context.reading() as uow:
        return await _visible(uow, caller, ref)


async def list_keys(caller: Principal, page: PageQuery, context: ServiceContext) -> Page[ApiKey]:
    """Return the project's keys, newest first; admin keys are shown to admins only."""
    if caller.role < Role.ADMIN:
        hidden = f"role != {KeyRole.ADMIN.name}"
        text = f"{page.filter} AND {hidden}" if page.filter.strip() else hidden
        page = PageQuery(page.page_size, page.page_token, text, page.order_by)
    async with context.reading() as uow:
        return await uow.keys.list(caller.project, page)


async def unpropagated(keys: Collection[ApiKey], context: ServiceContext) -> dict[str, list[str]]:
    """Return the ids of the waiting outbox rows by key, for keys with changes that gateways cannot know of yet."""
    ordering_keys = {record.ordering_key: key.id for key in keys for record in records_of(key, "")}
    waiting: dict[str, list[str]] = {}
    async with context.reading() as uow:
        for row_id, ordering_key in (await uow.unsent(ordering_keys.keys())).items():
            waiting.setdefault(ordering_keys[ordering_key], []).append(row_id)
    return waiting


@retry_conflicts
async def expire_keys(context: ServiceContext, now: datetime) -> int:
    """Note the end of the keys whose time has passed. Returns: how many."""
    async with context.writing() as uow:
        over = await uow.keys.select(KEYS.c.state == KeyState.ACTIVE, KEYS.c.expire_time <= now, limit=100)
        for key in over:
            await save_key(uow, key.apply(EXPIRE, now), "expired", KeyState.ACTIVE, "Its time is over.")
        await uow.commit()
    return len(over)


async def all_records(context: ServiceContext) -> dict[str, tuple[int, dict[str, Any] | None]]:
    """Return what the gateways' store must hold, for the comparison: hash of a secret -> version and record."""
    async with context.reading() as uow:
        names = {project.id: project.name for project in await uow.projects.select()}
        keys = await uow.keys.select()
    records = (record for key in keys for record in records_of(key, names.get(key.project, "")))
    return {record.key: (record.version, dict(record.value or {})) for record in records}


def records_of(key: ApiKey, project_name: str) -> list[Record]:
    """Return a key as gateways read it: one record for each secret, by its hash."""
    admin = key.role is KeyRole.ADMIN
    record = KeyRecord(
        key_id=key.id,
        role=Role[key.role.name],
        state=key.state.name,
        version=key.version,
        project="" if admin else key.project,
        project_name="" if admin else project_name,
        models=key.models,
        addresses=tuple(map(ip_network, key.addresses)),
    )
    values = ((secret.hash, replace(record, expire_time=_end_of(key, secret)).to_json()) for secret in key.secrets)
    return [Record(KEY_BUCKET, digest, key.version, value) for digest, value in values]


def _end_of(key: ApiKey, secret: Secret) -> float | None:
    ends = [moment for moment in (key.expire_time, secret.until) if moment is not None]
    return min(ends).timestamp() if ends else None


async def save_key(uow: AccessUnit, key: ApiKey, happening: str, before: KeyState | None, cause: str) -> None:
    """Save a key, a new one if it had no state before, and tell the gateways and the world."""
    await (uow.keys.save(key) if before else uow.keys.add(key))
    project = await uow.projects.by_id(key.project)
    for record in records_of(key, project.name if project is not None else ""):
        uow.put_record(record)
    event = Event(
        project=key.project,
        resource="apiKey",
        resource_id=key.id,
        happening=happening,
        state=key.state.name,
        previous_state=before.name if before else "",
        version=key.version,
        cause=cause,
        links={"deployment": key.deployment_id} if key.deployment_id else {},
        terminal=key.state is KeyState.REVOKED,
    )
    uow.emit(event)


async def _visible(uow: AccessUnit, caller: Principal, ref: str) -> ApiKey:
    """Return a key of the caller's project; admin keys are seen by admins only, from any project."""
    key = await uow.keys.find(caller.project, ref)
    if key is None and caller.role >= Role.ADMIN:
        key = await uow.keys.find(DEFAULT_ID, ref)
        key = key if key is not None and key.role is KeyRole.ADMIN else None
    if key is None or (key.role is KeyRole.ADMIN and caller.role < Role.ADMIN):
        raise NotFound.of("API key", ref)
    return key


async def _of_deployment(uow: AccessUnit, project: str, deployment_id: str) -> ApiKey | None:
    return await uow.keys.first(KEYS.c.project == project, KEYS.c.deployment_id == deployment_id)
