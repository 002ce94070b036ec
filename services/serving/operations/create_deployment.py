"""Make a deployment, and say what it would cost and how it would be served."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from modelry.common.v1 import common_pb2
from services.chassis.auth import Principal, Role
from services.chassis.errors import AlreadyExists, Denied, Invalid, NotFound, Unavailable, WrongState, with_field
from services.chassis.ids import new_id
from services.chassis.names import check_labels, check_name
from services.clients.registry import ModelInfo
from services.serving.domain import (
    ATTACHED_SLOWDOWN,
    Billing,
    Deployment,
    Engine,
    Mode,
    ModelFacts,
    State,
    choose_mode,
    cores_of,
    memory_terms,
    settle_engine,
)
from services.serving.operations.context import PRICE_ITEM, Desk, settle
from services.serving.operations.models import facts_of, why_merge_only

PREFIXES = ("dep-", "mv-")
PATH = "deployment."


@dataclass(frozen=True)
class Wish:
    """A deployment as it is asked for. `digest` is of the whole request, `spec_digest` of what a quote is for."""

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


@dataclass(frozen=True)
class Plan:
    """A wish that was checked: what it becomes."""

    name: str
    version_id: str
    facts: ModelFacts
    replicas: int
    engine: Engine
    mode: Mode
    accepts: bool
    cores: int
    shared_with: tuple[str, ...] = ()


async def _plan(desk: Desk, caller: Principal, wish: Wish, holder: str = "") -> Plan:
    """What a wish becomes. Raises: Invalid, NotFound, Denied."""
    check_labels(wish.title, wish.metadata or {}, PATH)
    if wish.name:
        check_name(wish.name, f"{PATH}name", PREFIXES)
    if wish.max_cost is not None and wish.max_cost < 0:
        raise Invalid("max_cost must be 0 or more.", field=f"{PATH}max_cost")
    shared = await _shared_with(desk, caller, wish)
    found = await with_field(f"{PATH}model", desk.clients.registry.resolve(caller.project, wish.model, holder))
    if found.state == "FAILED":
        words = f"The model {wish.model!r} cannot be used: {found.failure or 'its preparation failed.'}"
        raise Invalid(words, field=f"{PATH}model", reason="MODEL_FAILED")
    facts = facts_of(found)
    mode, accepts = choose_mode(wish.adapter_mode, facts.adapter, wish.accepts_adapters)
    if mode is Mode.ATTACHED and (why := await why_merge_only(desk, facts)):
        raise Invalid(f"It can be served merged only: {why}.", field=f"{PATH}adapter_mode")
    replicas = 1 if wish.replicas is None else wish.replicas
    if wish.engine.cpus > desk.cores:
        raise Invalid(
            f"This machine gives out {desk.cores} cores; a replica cannot have {wish.engine.cpus}.",
            field=f"{PATH}engine.cpus",
        )
    engine = settle_engine(wish.engine, facts, desk.settings.max_context_length)
    cores = cores_of(engine.cpus, desk.cores, replicas)
    name = wish.name or _default_name(found)
    return Plan(name, found.version_id, facts, replicas, engine, mode, accepts, cores, shared)


def _default_name(found: ModelInfo) -> str:
    check_name(found.model_name, f"{PATH}name", PREFIXES)
    return found.model_name


async def _shared_with(desk: Desk, caller: Principal, wish: Wish) -> tuple[str, ...]:
    """Ids of the projects that may call it. Raises: Denied, Invalid, NotFound."""
    if wish.billing is Billing.DEDICATED:
        if wish.shared_with:
            raise Invalid("shared_with goes with billing SHARED only.", field=f"{PATH}shared_with")
        return ()
    if caller.role < Role.ADMIN:
        raise Denied("Only an admin can make a SHARED deployment.", metadata={"required_role": "ADMIN"})
    found = []
    for name in wish.shared_with:
        try:
            project = await desk.clients.credentials.project(caller.project, name)
        except NotFound as error:
            raise Invalid(f"There is no project {name!r}.", field=f"{PATH}shared_with") from error
        found.append(project.id)
    return tuple(dict.fromkeys(found))


async def quote_deployment(desk: Desk, caller: Principal, wish: Wish) -> common_pb2.Quote:
    """Price of an hour, mode and memory; makes nothing but the quote. Raises: Invalid, NotFound, Denied."""
    plan = await _plan(desk, caller, wish)
    hours = float(plan.replicas * plan.cores) if wish.billing is Billing.DEDICATED else 0.0
    words, notes = f"{plan.replicas} replicas of {plan.cores} compute units (cores), one hour", _notes(desk, wish, plan)
    return await desk.clients.billing.quote(caller.project, PRICE_ITEM, (hours, hours), wish.spec_digest, words, notes)


def _notes(desk: Desk, wish: Wish, plan: Plan) -> list[str]:
    notes = ["The amounts are for one hour; a deployment goes on until it is scaled to 0 or deleted."]
    if wish.billing is Billing.SHARED:
        notes.append("SHARED: its callers pay by token, the owner pays no replica-hours.")
    if plan.mode is Mode.MERGED:
        notes.append("adapter_mode MERGED: the adapter is merged into its base and has the base's speed.")
    if plan.mode is Mode.ATTACHED:
        notes.append(f"adapter_mode ATTACHED: {ATTACHED_SLOWDOWN}.")
    elif plan.accepts:
        notes.append("It accepts adapters of its base; they attach within seconds and answer to their `ft:` names.")
    attaches = plan.accepts or plan.mode is Mode.ATTACHED
    rank = max(desk.settings.max_lora_rank, plan.facts.lora_rank if plan.mode is Mode.ATTACHED else 0)
    terms = memory_terms(plan.facts, plan.engine, attaches, rank, desk.settings.max_loras)
    notes += [f"memory of a replica, {term.text}" for term in terms]
    total = sum(term.size_bytes for term in terms) / (1 << 30)
    notes.append(f"memory of a replica, in all: {total:.2f} GiB; of {plan.replicas}: {total * plan.replicas:.2f} GiB")
    if plan.replicas * plan.cores > desk.cores:
        notes.append(f"{plan.replicas} replicas of {plan.cores} cores are more than the {desk.cores} cores given out.")
    if not plan.facts.prepared:
        notes.append("The model is not prepared yet: its sizes are those of the catalogue.")
    return notes


async def create_deployment(desk: Desk, caller: Principal, wish: Wish, now: datetime) -> Deployment:
    """Makes a deployment; a repeat with the same request id returns the first. Raises: Invalid, NotFound, …"""
    new, known = await _claim(desk, caller, wish)
    if known is not None:
        return known
    try:
        plan = await _plan(desk, caller, wish, holder=new)
        await _refuse_taken(desk, caller.project, plan.name)
        price = await _reserve(desk, caller, wish, plan, new)
        made = await _add(desk, _deployment(caller, wish, plan, new, price, now), now)
    except (AlreadyExists, Denied, Invalid, NotFound, WrongState):
        if (twin := await _find(desk, caller.project, new)) is not None:
            return twin  # a repeat of the same request was faster
        await _let_go(desk, caller.project, new)
        raise
    desk.wake.set()
    return made


async def _claim(desk: Desk, caller: Principal, wish: Wish) -> tuple[str, Deployment | None]:
    """The id of the new deployment, and the deployment if the first call has made it already."""
    async with desk.writing() as uow:
        fresh = new_id("dep-")
        claimed = await uow.claim_request(caller.project, "CreateDeployment", wish.request_id, wish.digest, fresh)
        known = None if claimed == fresh else await uow.deployments.find(caller.project, claimed)
        await uow.commit()
    return claimed, known


async def _find(desk: Desk, project: str, deployment_id: str) -> Deployment | None:
    async with desk.reading() as uow:
        return await uow.deployments.find(project, deployment_id)


async def _refuse_taken(desk: Desk, project: str, name: str) -> None:
    """An early look; the table's own rule decides."""
    async with desk.reading() as uow:
        if await uow.deployments.find(project, name) is not None:
            raise AlreadyExists(
                f"There is already a deployment {name!r} in this project.",
                metadata={"resource": "deployment", "name": name},
            )


async def _reserve(desk: Desk, caller: Principal, wish: Wish, plan: Plan, new: str) -> Decimal:
    """Sets the first hour aside and returns the price of a unit. Raises: WrongState: QUOTE_STALE."""
    if wish.billing is Billing.SHARED:
        return Decimal(0)
    units = float(max(1, plan.replicas) * plan.cores)
    return await desk.clients.billing.reserve(caller.project, new, PRICE_ITEM, units, wish.quote_id, wish.spec_digest)


def _deployment(caller: Principal, wish: Wish, plan: Plan, new: str, price: Decimal, now: datetime) -> Deployment:
    return Deployment(
        id=new,
        project=caller.project,
        name=plan.name,
        state=State.STARTING,
        model=wish.model,
        model_version_id=plan.version_id,
        facts=plan.facts,
        replicas=plan.replicas,
        engine=plan.engine,
        accepts_adapters=plan.accepts,
        adapter_mode=wish.adapter_mode,
        effective_mode=plan.mode,
        billing=wish.billing,
        create_time=now,
        title=wish.title,
        metadata=dict(wish.metadata or {}),
        shared_with=plan.shared_with,
        quote_id=wish.quote_id,
        max_cost=wish.max_cost,
        unit_price=price,
        version=0,
        cause="it was asked for",
    )


async def _add(desk: Desk, deployment: Deployment, now: datetime) -> Deployment:
    async with desk.writing() as uow:
        await uow.deployments.add(deployment)
        made = await settle(desk, uow, deployment, deployment, [], now, "created")
        await uow.commit()
    return made


async def _let_go(desk: Desk, project: str, holder: str) -> None:
    """Frees what a refused create has taken; what cannot be freed now falls by itself."""
    with suppress(Unavailable):
        await desk.clients.registry.release_hold(project, holder)
    with suppress(Unavailable):
        await desk.clients.billing.release(project, holder)
