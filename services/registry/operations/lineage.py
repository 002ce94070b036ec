"""Lineage: what a version was made from and what was made from it, as a graph."""

from dataclasses import dataclass

from services.registry.domain import Kind, ModelVersion
from services.registry.operations.context import ServiceContext
from services.registry.operations.versions import existing, find_version
from services.registry.store import VERSIONS, RegistryUnit


@dataclass(frozen=True)
class Node:
    """A thing: its id, kind, what to show and its digest."""

    id: str
    kind: str
    label: str
    digest: str = ""


@dataclass(frozen=True)
class Graph:
    """Things, the asked version first, and (source, target, relation) of what was made from what."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str, str], ...]


async def get_lineage(project: str, model_ref: str, text: str, context: ServiceContext) -> Graph:
    """Return the graph around a version. Raises: NotFound, Invalid."""
    async with context.reading() as uow:
        version = await find_version(uow, project, model_ref, text)
        nodes: dict[str, Node] = {version.id: _node(version)}
        edges: list[tuple[str, str, str]] = []
        await _add_sources(uow, version, nodes, edges)
        adapters = await uow.versions.select(VERSIONS.c.base_id == version.id, VERSIONS.c.project == project)
        for adapter in adapters:
            nodes[adapter.id] = _node(adapter)
            edges.append((version.id, adapter.id, "base"))
        for link in await uow.links_of(project, version.id):
            nodes[link.resource_id] = Node(link.resource_id, link.kind, link.resource_id)
            edges.append((version.id, link.resource_id, "evaluated" if link.kind == "evaluation" else "serves"))
    return Graph(tuple(nodes.values()), tuple(dict.fromkeys(edges)))


async def _add_sources(
    uow: RegistryUnit, version: ModelVersion, nodes: dict[str, Node], edges: list[tuple[str, str, str]]
) -> None:
    if version.source is not None:
        place = f"{version.source.bucket}/{version.source.prefix}"
        nodes[place] = Node(place, "object", place)
        edges.append((place, version.id, "imported_from"))
    if version.kind is not Kind.ADAPTER:
        return
    base, checkpoint, job = await existing(uow, version.base_id), version.checkpoint_id, version.job_id
    step = Node(checkpoint, "checkpoint", f"step {version.checkpoint_step}")
    nodes.update({checkpoint: step, job: Node(job, "job", job), base.id: _node(base)})
    edges += [(checkpoint, version.id, "published_from"), (job, checkpoint, "wrote")]
    edges += [(base.id, job, "tuned"), (base.id, version.id, "base")]
    for dataset_version_id in version.dataset_version_ids:
        label = version.labels.get(dataset_version_id, dataset_version_id)
        nodes[dataset_version_id] = Node(dataset_version_id, "datasetVersion", label)
        edges.append((dataset_version_id, job, "trained_on"))
        if source := version.labels.get(f"source:{dataset_version_id}"):
            nodes[source] = Node(source, "object", source)
            edges.append((source, dataset_version_id, "imported_from"))


def _node(version: ModelVersion) -> Node:
    return Node(version.id, "modelVersion", version.label, version.digest)
