"""Deployments from create to deletion: what each use case takes from other services, and what it gives back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from services.chassis.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound, Unavailable, WrongState
from services.chassis.names import UpdateLabels
from services.serving.domain.entities import Billing, Engine, ReplicaState, State
from services.serving.operations import deployments, money, replicas
from services.serving.operations.context import ServiceContext
from services.serving.operations.create_deployment import CreateDeployment, quote_deployment
from services.serving.operations.deployments import ClaimKey, ScaleDeployment, remove_deployment
from services.serving.operations.routes import all_routes
from tests.unit.serving.conftest import Fakes
from tests.unit.serving.made import MOMENT
from tests.unit.serving.stored import (
    ADMIN,
    CALLER,
    LATER,
    OTHER,
    PROJECT,
    create,
    happenings,
    now_of,
    ready_deployment,
    start_replica,
)

pytestmark = pytest.mark.unit


async def test_a_deployment_holds_its_model_and_the_money_of_its_first_hour(
    context: ServiceContext, others: Fakes
) -> None:
    made = await create(context, replicas=2)
    assert (made.state, made.version, made.replicas, made.unit_price) == (State.STARTING, 1, 2, Decimal("0.5"))
    assert (made.model_version_id, made.facts.base_version_id) == ("mv-base", "mv-base")
    assert others.registry.holds.holders("mv-base") == [made.id]
    reserved = others.billing.reservations[made.id]
    assert (reserved.state, reserved.quantity) == ("HELD", 4.0)  # two replicas of two cores, one hour
    assert await happenings(context) == ["created"]
    assert context.wake.is_set()
    assert (await all_routes(context.reading(), context.secret_of))[made.id][0] == made.route_version == 1


async def test_a_repeated_create_gives_the_first_deployment(context: ServiceContext, others: Fakes) -> None:
    first = await create(context, request_id="r-1")
    assert await create(context, request_id="r-1") == first
    assert len(others.billing.reservations) == 1
    with pytest.raises(AlreadyExists) as caught:
        await create(context, request_id="r-1", digest="other")
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_a_create_that_met_an_outage_goes_on_with_its_repeat(context: ServiceContext, others: Fakes) -> None:
    others.billing.away = {"reserve"}
    with pytest.raises(Unavailable):
        await create(context, request_id="r-1")
    (holder,) = others.registry.holds.holders()
    others.billing.away = set()
    assert (await create(context, request_id="r-1")).id == holder


async def test_a_refused_create_gives_back_what_it_has_taken(context: ServiceContext, others: Fakes) -> None:
    kept = await create(context)
    with pytest.raises(AlreadyExists):
        await create(context)
    others.registry.change("mv-base", state="FAILED", failure="It is damaged.")
    with pytest.raises(Invalid, match=r"It is damaged\.") as caught:
        await create(context, name="other")
    assert (caught.value.reason, caught.value.field) == ("MODEL_FAILED", "deployment.model")
    with pytest.raises(NotFound):
        await create(context, name="other", model="none")
    others.registry.change("mv-base", state="READY")
    with pytest.raises(WrongState) as stale:
        await create(context, name="other", quote_id="quote-9")
    assert stale.value.reason == "QUOTE_STALE"
    assert others.registry.holds.holders() == [kept.id]
    assert others.billing.in_state("HELD") == {kept.id}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"engine": Engine(cpus=5)}, "deployment.engine.cpus"),
        ({"max_cost": Decimal(-1)}, "deployment.max_cost"),
        ({"name": "dep-1"}, "deployment.name"),
        ({"shared_with": ("x",)}, "deployment.shared_with"),
    ],
)
async def test_a_wish_that_cannot_be_met_is_refused_at_its_field(
    context: ServiceContext, others: Fakes, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await create(context, **fields)
    assert caught.value.field == field
    assert others.registry.holds.holders() == []


async def test_a_shared_deployment_is_an_admins_and_costs_its_owner_nothing(
    context: ServiceContext, others: Fakes
) -> None:
    others.credentials.add_project(OTHER, "sales")
    shared: dict[str, Any] = {"billing": Billing.SHARED, "shared_with": ("sales", OTHER)}
    with pytest.raises(Denied):
        await create(context, **shared)
    made = await create(context, ADMIN, **shared)
    assert (made.shared_with, others.billing.reservations) == ((OTHER,), {})
    await money.meter(made, 2.0, 0, context, LATER)
    assert (await now_of(context, made)).used_hours == 0
    with pytest.raises(Invalid, match="no project 'nobody'"):
        await create(context, ADMIN, name="other", billing=Billing.SHARED, shared_with=("nobody",))
    with pytest.raises(Invalid, match="empty name") as caught:
        await create(context, ADMIN, name="other", billing=Billing.SHARED, shared_with=("",))
    assert caught.value.field == "deployment.shared_with"


async def test_a_quote_says_the_price_of_an_hour_and_takes_nothing(context: ServiceContext, others: Fakes) -> None:
    command = CreateDeployment(CALLER, model="tiny", replicas=3, engine=Engine(cpus=2))
    quote = await quote_deployment(command, context, MOMENT)
    assert (quote.items[0].quantity_low, quote.items[0].quantity_high) == (6.0, 6.0)
    assert "3 replicas of 2 cores are more than the 4 cores given out." in quote.notes
    assert (others.registry.holds.holders(), others.billing.reservations) == ([], {})


async def test_scaling_to_what_is_wanted_already_changes_nothing(context: ServiceContext) -> None:
    made = await create(context)
    assert await deployments.scale_deployment(ScaleDeployment(PROJECT, "help", 1, "asked"), context, LATER) == made
    idle = await deployments.scale_deployment(ScaleDeployment(PROJECT, "help", 0, "asked"), context, LATER)
    assert (idle.state, idle.replicas, idle.cause) == (State.IDLE, 0, "asked")
    assert await happenings(context) == ["created", "scaled", "idle"]
    with pytest.raises(NotFound):
        await deployments.scale_deployment(ScaleDeployment(OTHER, "help", 2, "asked"), context, LATER)


async def test_a_change_needs_the_present_etag(context: ServiceContext) -> None:
    made = await create(context)
    change = UpdateLabels(PROJECT, "help", "Help desk", None, str(made.version))
    assert (await deployments.update_deployment(change, context, LATER)).title == "Help desk"
    with pytest.raises(Conflict):
        await deployments.update_deployment(change, context, LATER)


async def test_the_key_of_a_deployment_is_shown_once(context: ServiceContext) -> None:
    await create(context)
    with pytest.raises(WrongState) as early:
        await deployments.claim_key(ClaimKey(PROJECT, "help", "", ""), context, MOMENT)
    assert early.value.reason == "NOT_READY"
    (made,) = [one for one, _ in await replicas.load_all(context)]
    await start_replica(context, made, ReplicaState.READY)
    claim = await deployments.claim_key(ClaimKey(PROJECT, "help", "r-1", "digest"), context, MOMENT)
    assert (claim.key_id, claim.secret, claim.deployment.key_id) == ("key-1", "mk-secret", "key-1")
    repeat = await deployments.claim_key(ClaimKey(PROJECT, "help", "r-1", "digest"), context, LATER)
    assert (repeat.key_id, repeat.secret) == ("key-1", "")
    with pytest.raises(AlreadyExists) as caught:
        await deployments.claim_key(ClaimKey(PROJECT, "help", "r-2", "digest"), context, LATER)
    assert (caught.value.reason, caught.value.metadata["key_id"]) == ("ALREADY_CLAIMED", "key-1")


async def test_a_deleted_deployment_gives_back_key_money_and_holds_before_it_goes(
    context: ServiceContext, others: Fakes
) -> None:
    made = await ready_deployment(context)
    await deployments.claim_key(ClaimKey(PROJECT, "help", "", ""), context, MOMENT)
    await money.meter(made, 0.5, 0, context, MOMENT)
    going = await deployments.delete_deployment(PROJECT, "help", context, LATER)
    assert going.state is State.DELETING
    assert await deployments.delete_deployment(PROJECT, "help", context, LATER) == going
    with pytest.raises(WrongState):
        await deployments.scale_deployment(ScaleDeployment(PROJECT, "help", 2, "asked"), context, LATER)
    others.registry.away = {"release_hold"}
    with pytest.raises(Unavailable):
        await remove_deployment(going, context, LATER)
    others.registry.away = set()
    await remove_deployment(going, context, LATER)
    assert await remove_deployment(going, context, LATER) == []
    assert others.credentials.revoked == {made.id}
    assert others.billing.in_state("RELEASED") == {made.id}
    assert [record.quantity for record in others.billing.records.values()] == [0.5]
    assert others.registry.holds.holders() == []
    assert (await happenings(context))[-2:] == ["deleting", "deleted"]
    with pytest.raises(NotFound):
        await now_of(context, made)
    assert await all_routes(context.reading(), context.secret_of) == {}


async def test_a_watcher_sees_a_deployment_until_its_end(context: ServiceContext) -> None:
    made = await create(context)
    seen = []
    async for deployment in deployments.watch_deployment(PROJECT, "help", 0, context):
        seen.append(deployment.state)
        if len(seen) == 1:
            going = await deployments.delete_deployment(PROJECT, "help", context, LATER)
        if len(seen) == 2:
            await remove_deployment(going, context, LATER)
    assert seen == [State.STARTING, State.DELETING, State.DELETED]
    assert made.version == 1
