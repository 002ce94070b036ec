"""Projects, and the bucket that each has on the installation's store."""

from dataclasses import replace
from datetime import datetime

from services.access.domain.credentials import BUILTIN, Credential
from services.access.domain.projects import DEFAULT_ID, DEFAULT_NAME, Project
from services.access.operations.audit import by, note
from services.access.operations.context import ServiceContext
from services.access.store import AccessUnit
from services.chassis.auth import Principal, Role
from services.chassis.data import Page, PageQuery, check_etag, retry_conflicts
from services.chassis.errors import NotFound
from services.chassis.events import Event
from services.chassis.ids import new_id
from services.chassis.names import CreateNamed, UpdateLabels


async def create_project(caller: Principal, command: CreateNamed, context: ServiceContext, now: datetime) -> Project:
    """Create a project with its `builtin` credential; its bucket is made afterwards, outside of the transaction."""
    project = Project.create(new_id("proj-"), command.name, command.title, command.metadata, now)
    async with context.writing() as uow:
        first = await uow.claim_request("", "CreateProject", command.request_id, command.digest, project.id)
        if first != project.id:
            return await uow.projects.get("", first)
        await _add(uow, project, by(caller), now)
        await note(uow, caller, "CreateProject", project.id, now)
        await uow.commit()
    return project


async def ensure_default(context: ServiceContext, now: datetime) -> Project:
    """Return the project that always exists."""
    async with context.writing() as uow:
        known = await uow.projects.by_id(DEFAULT_ID)
        if known is not None:
            return known
        project = Project.create(DEFAULT_ID, DEFAULT_NAME, "", {}, now)
        await _add(uow, project, "Made at the first start.", now)
        await uow.commit()
    return project


async def _add(uow: AccessUnit, project: Project, cause: str, now: datetime) -> None:
    await uow.projects.add(project)
    builtin = Credential(new_id("cred-"), project.id, BUILTIN, now, now, bucket=project.bucket)
    await uow.credentials.add(builtin)
    uow.emit(Event(project.id, "project", project.id, "created", "ACTIVE", version=1, cause=cause))


async def get_project(caller: Principal, ref: str, context: ServiceContext) -> Project:
    """Return the caller's own project, or any for an admin. Raises: NotFound."""
    async with context.reading() as uow:
        return await _visible(uow, caller, ref)


async def resolve_project(ref: str, context: ServiceContext) -> Project:
    """Return any project by name or id, for Modelry's own services. Raises: NotFound."""
    async with context.reading() as uow:
        return await uow.projects.get("", ref)


async def list_projects(caller: Principal, page: PageQuery, context: ServiceContext) -> Page[Project]:
    """Return the caller's own project, or all for an admin."""
    async with context.reading() as uow:
        if caller.role >= Role.ADMIN:
            return await uow.projects.list("", page)
        return await uow.projects.list("", page, id=caller.project)


@retry_conflicts
async def update_project(caller: Principal, command: UpdateLabels, context: ServiceContext, now: datetime) -> Project:
    """Change title or metadata. Raises: NotFound, Invalid, Conflict (a stale etag)."""
    async with context.writing() as uow:
        project = await _visible(uow, caller, command.ref)
        check_etag("project", command.ref, command.etag, project.version)
        project = replace(project, **command.changes("project."), version=project.version + 1, update_time=now)
        await uow.projects.save(project)
        await note(uow, caller, "UpdateProject", project.id, now)
        uow.emit(Event(project.id, "project", project.id, "updated", "ACTIVE", "ACTIVE", project.version, by(caller)))
        await uow.commit()
    return project


async def all_projects(context: ServiceContext) -> list[Project]:
    """Return every project, for the maintenance of buckets."""
    async with context.reading() as uow:
        return await uow.projects.select()


async def _visible(uow: AccessUnit, caller: Principal, ref: str) -> Project:
    project = await uow.projects.get("", ref)
    if caller.role < Role.ADMIN and project.id != caller.project:
        raise NotFound.of("project", ref)
    return project
