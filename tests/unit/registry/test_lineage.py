"""What a version was made from, and what was made from it."""

from __future__ import annotations

import pytest

from services.chassis.delivery import Message
from services.chassis.errors import NotFound
from services.chassis.events import Event
from services.registry.handlers import handle
from services.registry.operations.context import ServiceContext
from services.registry.operations.lineage import get_lineage
from tests.unit.registry.made import MANIFEST, OTHER, PROJECT, a_publication, begin_publication, ready_model

pytestmark = pytest.mark.unit

JOB, CHECKPOINT = "ftjob-0123456789", "ftckpt_1"


async def use(
    context: ServiceContext, resource: str, resource_id: str, version_id: str, project: str = PROJECT
) -> None:
    """An event of something that uses a version."""
    event = Event(project, resource, resource_id, "created", "", links={"model_version": version_id, "job": "x"})
    await handle(context, Message(event.subject, event.body().encode(), {}, event.id))


async def test_an_adapter_was_made_from_a_base_a_job_its_checkpoint_and_data(context: ServiceContext) -> None:
    base = await ready_model(context)
    adapter = await begin_publication(context, a_publication(base))
    graph = await get_lineage(PROJECT, "helper", "1", context)
    assert {(node.id, node.kind, node.label) for node in graph.nodes} == {
        (adapter.id, "modelVersion", "helper@1"),
        (CHECKPOINT, "checkpoint", "step 40"),
        (JOB, "job", JOB),
        (base.id, "modelVersion", "own@1"),
        ("dsv-1", "datasetVersion", "tickets@1"),
        ("team/rows", "object", "team/rows"),
    }
    assert graph.nodes[0].id == adapter.id
    assert set(graph.edges) == {
        (CHECKPOINT, adapter.id, "published_from"),
        (JOB, CHECKPOINT, "wrote"),
        (base.id, JOB, "tuned"),
        (base.id, adapter.id, "base"),
        ("dsv-1", JOB, "trained_on"),
        ("team/rows", "dsv-1", "imported_from"),
    }


async def test_a_base_shows_where_it_came_from_and_its_adapters(context: ServiceContext) -> None:
    base = await ready_model(context)
    adapters = [await begin_publication(context, a_publication(base, request_id=f"r-{n}")) for n in range(2)]
    graph = await get_lineage(PROJECT, "own", "latest", context)
    assert graph.nodes[0].digest == MANIFEST.digest
    source = "team/sources/own"
    assert set(graph.edges) == {
        (source, base.id, "imported_from"),
        *((base.id, adapter.id, "base") for adapter in adapters),
    }


async def test_evaluations_and_deployments_of_the_project_stand_in_the_lineage_once(context: ServiceContext) -> None:
    version = await ready_model(context)
    for _ in range(2):
        await use(context, "evaluation", "eval-1", version.id)
    await use(context, "deployment", "dep-1", version.id)
    await use(context, "job", "ftjob-9", version.id)
    await use(context, "deployment", "dep-2", version.id, OTHER)
    graph = await get_lineage(PROJECT, "own", "1", context)
    assert [edge for edge in graph.edges if edge[0] == version.id] == [
        (version.id, "dep-1", "serves"),
        (version.id, "eval-1", "evaluated"),
    ]


async def test_the_adapters_of_a_preset_are_those_of_the_project(context: ServiceContext) -> None:
    graph = await get_lineage(PROJECT, "small", "1", context)
    assert (len(graph.nodes), graph.edges) == (1, ())


async def test_another_project_sees_no_lineage(context: ServiceContext) -> None:
    version = await ready_model(context)
    with pytest.raises(NotFound):
        await get_lineage(OTHER, "-", version.id, context)
