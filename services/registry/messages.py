"""Entities of the registry as messages."""

from modelry.registry.v1 import internal_pb2
from modelry.registry.v1 import registry_pb2 as pb
from services.chassis.locations import StoredFiles
from services.chassis.proto_values import message_of
from services.registry.domain import Alias, ModelVersion
from services.registry.operations.lineage import Graph
from services.registry.operations.versions import Resolved

_NOT_STORED = StoredFiles("", "", "")


def version_message(version: ModelVersion) -> pb.ModelVersion:
    """Return a version as it is shown."""
    return message_of(pb.ModelVersion, version, base_model_version_id=version.base_id)


def alias_message(alias: Alias) -> pb.Alias:
    """Return an alias with its history."""
    return message_of(pb.Alias, alias, name=alias.alias, model_version_id=alias.target.model_version_id)


def lineage_message(graph: Graph) -> pb.Lineage:
    """Return a graph as its message."""
    edges = [pb.Lineage.Edge(source=source, target=target, relation=word) for source, target, word in graph.edges]
    return message_of(pb.Lineage, graph, edges=edges)


def resolved_message(resolved: Resolved) -> internal_pb2.ResolvedModel:
    """Return a version, its files, and those of its base."""
    version, base = resolved.version, resolved.base
    return internal_pb2.ResolvedModel(
        version=version_message(version),
        files=_files_message(version),
        base=version_message(base) if base else None,
        base_files=_files_message(base) if base else None,
        shape=dict(version.shape),
        base_model_name=(base or version).model_name,
    )


def _files_message(version: ModelVersion) -> internal_pb2.ModelFiles:
    stored = version.files.stored if version.files else _NOT_STORED
    return message_of(internal_pb2.ModelFiles, stored, version_id=version.id, digest=version.digest)
