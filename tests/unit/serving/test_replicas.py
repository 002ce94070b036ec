"""Replicas, adapters and models as they come and go: the state and the route of their deployment follow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.serving.domain.entities import ReplicaState, State
from services.serving.operations import adapters, replicas
from services.serving.operations.context import ServiceContext
from tests.unit.serving.conftest import Fakes
from tests.unit.serving.made import MOMENT, adapter
from tests.unit.serving.stored import (
    LATER,
    create,
    happenings,
    now_of,
    start_replica,
)

pytestmark = pytest.mark.unit


async def test_a_deployment_is_ready_with_its_replicas_and_its_route_names_them(context: ServiceContext) -> None:
    made = await create(context, replicas=2)
    replica = await start_replica(context, made, ReplicaState.READY)
    assert (await now_of(context, made)).state is State.DEGRADED
    await start_replica(context, made, ReplicaState.READY)
    ready = await now_of(context, made)
    assert (ready.state, ready.ready_replicas, ready.first_ready_time) == (State.READY, 2, MOMENT)
    assert [one["address"] for one in ready.route["replicas"]] == ["127.0.0.1:15001"] * 2
    draining = await replicas.move_replica(replica.id, ReplicaState.DRAINING, "it is one too many", context, LATER)
    after = await now_of(context, made)
    assert draining is not None and draining.drain_version == after.route_version == ready.route_version + 1
    assert [one["id"] for one in after.route["replicas"]] != [replica.id]
    assert await happenings(context) == ["created", "degraded", "ready", "degraded"]


async def test_starts_that_fail_in_a_row_make_a_deployment_failing(context: ServiceContext) -> None:
    made = await create(context)
    for restarts in (1, 2):
        await replicas.create_replica(made.id, restarts, "it ended with code 1", context, MOMENT)
    failing = await now_of(context, made)
    assert failing.state is State.FAILING
    assert failing.failure is not None
    assert failing.failure.message == "The last starts failed (2 in a row): it ended with code 1"


async def test_a_replica_that_ended_changes_no_more_and_is_forgotten_after_a_while(context: ServiceContext) -> None:
    made = await create(context)
    for _ in range(3):
        replica = await start_replica(context, made, ReplicaState.STARTING)
        assert await replicas.move_replica(replica.id, ReplicaState.FAILED, "it broke", context, LATER) is not None
        assert await replicas.move_replica(replica.id, ReplicaState.READY, "", context, LATER) is None
        assert await replicas.note_replica(replica.id, context, LATER, pid=1) is None
    assert len(await replicas.drop_ended(made.id, context)) == 2  # replicas_kept is 1
    assert await replicas.drop_ended(made.id, context) == []


async def test_an_adapter_that_was_deleted_leaves_and_one_that_is_on_all_replicas_is_ready(
    context: ServiceContext,
) -> None:
    made = await create(context)
    async with context.writing() as uow:
        await uow.deployments.save(replace(made, adapters=(adapter(),), version=made.version + 1))
        await uow.commit()
    await adapters.note_adapters(made.id, {"mv-tuned": (True, "")}, context, LATER)
    noted = await now_of(context, made)
    assert noted.adapters[0].ready and noted.route["adapters"][0]["ready"]
    await adapters.note_adapters(made.id, {"mv-tuned": (True, "")}, context, LATER)
    assert await now_of(context, made) == noted
    await adapters.detach_version("mv-tuned", context, LATER)
    await adapters.detach_version("mv-tuned", context, LATER)
    after = await now_of(context, made)
    assert (after.adapters, after.route["adapters"]) == ((), [])
    assert await happenings(context) == ["created", "adaptersChanged", "adapterRemoved"]


async def test_a_model_that_is_prepared_later_gives_its_facts_or_its_trouble(
    context: ServiceContext, others: Fakes
) -> None:
    ready = others.registry.models["", "tiny"]
    others.registry.add(replace(ready, state="PREPARING", files=None), "tiny")
    made = await create(context)
    assert not made.facts.prepared
    assert await adapters.refresh_facts(made, context, LATER) is None
    others.registry.change("mv-base", state="FAILED", failure="It is damaged.")
    assert await adapters.refresh_facts(made, context, LATER) is None
    await replicas.refresh_deployment(made.id, "", context, LATER)
    failing = await now_of(context, made)
    assert failing.state is State.FAILING and failing.failure is not None
    assert (failing.failure.reason, "It is damaged." in failing.failure.message) == ("MODEL_FAILED", True)
    others.registry.add(ready, "tiny")
    taken = await adapters.refresh_facts(failing, context, LATER)
    assert taken is not None and taken.facts.prepared
