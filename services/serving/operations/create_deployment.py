"""Make a deployment, and say what it would cost and how it would be served."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from modelry.common.v1 import common_pb2
from services.chassis.auth import Principal, Role
from services.chassis.errors import AlreadyExists, Denied, Invalid, NotFound, Unavailable, WrongState, with_field
from services.chassis.ids import new_id
from services.chassis.names import check_metadata, check_name
from services.clients.registry import ModelInfo
from services.serving.domain.entities import Billing, Deployment, Engine, Mode, State
from services.serving.domain.planning import (
    ATTACHED_SLOWDOWN,
    choose_engine,
    choose_mode,
    cores_of,
    largest_rank,
    memory_terms,
)
from services.serving.operations.adapters import facts_of, why_merge_only
from services.serving.operations.context import PRICE_ITEM, ServiceContext
from services.serving.operations.deployment_state import save_deployment

PREFIXES = ("dep-", "mv-")
PATH = "deployment."


@dataclass(frozen=True)
class CreateDeployment:
    """Ask for a deployment. `digest` is of the whole request, `spec_digest` of what a quote is for."""

    caller: Principal
    model: str
    name: str = ""
    title: str = ""
    metadata: Mapping[str, str] | None = None
    replicas: int | None = None
    engine: Engine = field(default_factory=Engine)
    accepts_adapters: bool | None = None
    adapter_mode: Mode = Mode.AUTO
    billing: Billing = Billing.DEDICATED
    shared_with: tuple[str, ...] = ()
    quote_id: str = ""
    max_cost: Decimal | None = None
    request_id: str = ""
    digest: str = ""
    spec_digest: str = ""


def _check(command: CreateDeployment, context: ServiceContext) -> None:
    """Refuse what can be refused without asking anybody. Raises: Invalid."""
    check_metadata(command.metadata or {}, PATH)
    if command.name:
        check_name(command.name, f"{PATH}name", PREFIXES)
    if command.max_cost is not None and command.max_cost < 0:
        raise Invalid("The max_cost must be 0 or more.", field=f"{PATH}max_cost")
    if command.engine.cpus > context.cores:
        raise Invalid(
            f"This machine gives out {context.cores} cores; a replica cannot have {command.engine.cpus}.",
            field=f"{PATH}engine.cpus",
        )


async def _model(command: CreateDeployment, context: ServiceContext, holder: str) -> ModelInfo:
    """Return the version to serve, held by the new deployment. Raises: Invalid, NotFound."""
    resolving = context.clients.registry.resolve(command.caller.project, command.model, holder)
    model = await with_field(f"{PATH}model", resolving)
    if model.state == "FAILED":
        words = f"The model {command.model!r} cannot be used: {model.failure or 'its preparation failed.'}"
        raise Invalid(words, field=f"{PATH}model", reason="MODEL_FAILED")
    if not command.name:
        check_name(model.model_name, f"{PATH}name", PREFIXES)
    return model


async def _plan(command: CreateDeployment, context: ServiceContext, now: datetime, holder: str = "") -> Deployment:
    """Check a command and return what it becomes, without its price. Raises: Invalid, NotFound, Denied."""
    _check(command, context)
    shared = await _shared_with(command, context)
    model = await _model(command, context, holder)
    facts = facts_of(model)
    mode, accepts = choose_mode(command.adapter_mode, facts.adapter, command.accepts_adapters)
    if mode is Mode.ATTACHED and (why := await why_merge_only(facts, context)):
        raise Invalid(f"The adapter can be served merged only: {why}.", field=f"{PATH}adapter_mode")
    return Deployment(
        id=holder,
        project=command.caller.project,
        name=command.name or model.model_name,
        state=State.STARTING,
        model=command.model,
        model_version_id=model.version_id,
        facts=facts,
        replicas=1 if command.replicas is None else command.replicas,
        engine=choose_engine(command.engine, facts, context.settings.max_context_length),
        accepts_adapters=accepts,
        adapter_mode=command.adapter_mode,
        effective_mode=mode,
        billing=command.billing,
        create_time=now,
        title=command.title,
        metadata=dict(command.metadata or {}),
        shared_with=shared,
        quote_id=command.quote_id,
        max_cost=command.max_cost,
        version=0,
        cause="It was asked for.",
    )


async def _shared_with(command: CreateDeployment, context: ServiceContext) -> tuple[str, ...]:
    """Return the ids of the projects that may call it. Raises: Denied, Invalid, NotFound."""
    if command.billing is Billing.DEDICATED:
        if command.shared_with:
            raise Invalid("The list shared_with goes with billing SHARED only.", field=f"{PATH}shared_with")
        return ()
    if command.caller.role < Role.ADMIN:
        raise Denied("Only an admin can make a SHARED deployment.", metadata={"required_role": "ADMIN"})
    ids = []
    for name in command.shared_with:
        if not name:
            raise Invalid("The list shared_with has an empty name.", field=f"{PATH}shared_with")
        try:
            project = await context.clients.credentials.project(command.caller.project, name)
        except NotFound as error:
            raise Invalid(f"There is no project {name!r}.", field=f"{PATH}shared_with") from error
        ids.append(project.id)
    return tuple(dict.fromkeys(ids))


async def quote_deployment(command: CreateDeployment, context: ServiceContext, now: datetime) -> common_pb2.Quote:
    """Return the price of an hour, mode and memory; make nothing but the quote. Raises: Invalid, NotFound, Denied."""
    plan = await _plan(command, context, now)
    cores = _cores(plan, context)
    hours = float(plan.replicas * cores) if plan.billing is Billing.DEDICATED else 0.0
    words = f"{plan.replicas} replicas of {cores} compute units (cores), one hour"
    return await context.clients.billing.quote(
        plan.project, PRICE_ITEM, (hours, hours), command.spec_digest, words, _notes(plan, cores, context)
    )


def _cores(plan: Deployment, context: ServiceContext) -> int:
    return cores_of(plan.engine.cpus, context.cores, plan.replicas)


def _notes(plan: Deployment, cores: int, context: ServiceContext) -> list[str]:
    notes = ["The amounts are for one hour; a deployment goes on until it is scaled to 0 or deleted."]
    if plan.billing is Billing.SHARED:
        notes.append("SHARED: its callers pay by token, the owner pays no replica-hours.")
    if plan.effective_mode is Mode.MERGED:
        notes.append("adapter_mode MERGED: the adapter is merged into its base and has the base's speed.")
    if plan.effective_mode is Mode.ATTACHED:
        notes.append(f"adapter_mode ATTACHED: {ATTACHED_SLOWDOWN}.")
    elif plan.accepts_adapters:
        notes.append("It accepts adapters of its base; they attach within seconds and answer to their `ft:` names.")
    rank = largest_rank(plan, context.settings.max_lora_rank)
    terms = memory_terms(plan.facts, plan.engine, plan.attaches, rank, context.settings.max_loras)
    notes += [f"Memory of a replica, {term.text}" for term in terms]
    total = sum(term.size_bytes for term in terms) / (1 << 30)
    notes.append(f"Memory of a replica, in all: {total:.2f} GiB; of {plan.replicas}: {total * plan.replicas:.2f} GiB")
    if plan.replicas * cores > context.cores:
        notes.append(f"{plan.replicas} replicas of {cores} cores are more than the {context.cores} cores given out.")
    if not plan.facts.prepared:
        notes.append("The model is not prepared yet: its sizes are those of the catalogue.")
    return notes


async def create_deployment(command: CreateDeployment, context: ServiceContext, now: datetime) -> Deployment:
    """Make a deployment; a repeat with the same request id returns the first. Raises: Invalid, NotFound, …"""
    new, known = await _claim(command, context)
    if known is not None:
        return known
    try:
        plan = await _plan(command, context, now, holder=new)
        await _refuse_taken(plan.project, plan.name, context)
        price = await _reserve(plan, command.spec_digest, context)
        created = await _add(replace(plan, unit_price=price), context, now)
    except (AlreadyExists, Denied, Invalid, NotFound, WrongState):
        if (twin := await _find(command.caller.project, new, context)) is not None:
            return twin  # a repeat of the same request was faster
        await _let_go(command.caller.project, new, context)
        raise
    context.wake.set()
    return created


async def _claim(command: CreateDeployment, context: ServiceContext) -> tuple[str, Deployment | None]:
    """Return the id of the new deployment, and the deployment if the first call has made it already."""
    async with context.writing() as uow:
        fresh = new_id("dep-")
        claimed = await uow.claim_request(
            command.caller.project, "CreateDeployment", command.request_id, command.digest, fresh
        )
        known = None if claimed == fresh else await uow.deployments.find(command.caller.project, claimed)
        await uow.commit()
    return claimed, known


async def _find(project: str, ref: str, context: ServiceContext) -> Deployment | None:
    async with context.reading() as uow:
        return await uow.deployments.find(project, ref)


async def _refuse_taken(project: str, name: str, context: ServiceContext) -> None:
    """Refuse a name in use early; the table's own rule decides."""
    if await _find(project, name, context) is not None:
        raise AlreadyExists(
            f"There is already a deployment {name!r} in this project.",
            metadata={"resource": "deployment", "name": name},
        )


async def _reserve(plan: Deployment, spec_digest: str, context: ServiceContext) -> Decimal:
    """Set the first hour aside and return the price of a unit. Raises: WrongState: QUOTE_STALE."""
    if plan.billing is Billing.SHARED:
        return Decimal(0)
    units = float(max(1, plan.replicas) * _cores(plan, context))
    return await context.clients.billing.reserve(plan.project, plan.id, PRICE_ITEM, units, plan.quote_id, spec_digest)


async def _add(deployment: Deployment, context: ServiceContext, now: datetime) -> Deployment:
    async with context.writing() as uow:
        await uow.refuse_deleted(deployment.id)
        await uow.deployments.add(deployment)
        created = await save_deployment(uow, deployment, deployment, [], context, now, happening="created")
        await uow.commit()
    return created


async def _let_go(project: str, holder: str, context: ServiceContext) -> None:
    """Free what a refused create has taken; what cannot be freed now falls by itself."""
    with suppress(Unavailable):
        await context.clients.registry.release_hold(project, holder)
    with suppress(Unavailable):
        await context.clients.billing.release(project, holder)
