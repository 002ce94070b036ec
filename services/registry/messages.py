"""Entities of the registry as messages."""

from __future__ import annotations

from modelry.registry.v1 import internal_pb2
from modelry.registry.v1 import registry_pb2 as pb
from services.chassis.proto_values import failure_of, location_message, timestamp_of
from services.registry.domain import Alias, Files, Model, ModelVersion
from services.registry.operations.lineage import Graph
from services.registry.operations.resolve import Resolved


def model_message(model: Model) -> pb.Model:
    """Return a model as it is shown."""
    return pb.Model(
        id=model.id,
        name=model.name,
        title=model.title,
        metadata=dict(model.metadata),
        etag=str(model.version),
        origin=pb.Model.Origin.Value(model.origin.name),
        hub_id=model.hub_id,
        languages=model.languages,
        license=model.license,
        parameter_count=model.parameter_count,
        context_length=model.context_length,
        latest_version=model.latest_version,
        create_time=timestamp_of(model.create_time),
        update_time=timestamp_of(model.update_time),
    )


def version_message(version: ModelVersion) -> pb.ModelVersion:
    """Return a version as it is shown."""
    message = pb.ModelVersion(
        id=version.id,
        model_id=version.model_id,
        model_name=version.model_name,
        number=version.number,
        state=pb.ModelVersion.State.Value(version.state.name),
        kind=pb.ModelVersion.Kind.Value(version.kind.name),
        base_model_version_id=version.base_id,
        lora_rank=version.lora_rank,
        job_id=version.job_id,
        checkpoint_id=version.checkpoint_id,
        checkpoint_step=version.checkpoint_step,
        dataset_version_ids=version.dataset_version_ids,
        fine_tuned_name=version.fine_tuned_name,
        architecture=version.architecture,
        parameter_count=version.parameter_count,
        context_length=version.context_length,
        chat_fingerprint=version.chat_fingerprint,
        version=version.version,
        cause=version.cause,
        create_time=timestamp_of(version.create_time),
        finish_time=timestamp_of(version.finish_time),
        failure=failure_of(version.failure),
        metrics=dict(version.metrics),
        metadata=dict(version.metadata),
    )
    _fill_optional(message, version)
    return message


def _fill_optional(message: pb.ModelVersion, version: ModelVersion) -> None:
    if version.source is not None:
        message.source.CopyFrom(location_message(version.source))
    if version.files is not None:
        message.digest, message.size_bytes = version.files.digest, version.files.size_bytes


def alias_message(alias: Alias) -> pb.Alias:
    """Return an alias with its history."""
    message = pb.Alias(name=alias.alias, model_id=alias.model_id, model_version_id=alias.target.model_version_id)
    for target in alias.history:
        message.history.add(
            model_version_id=target.model_version_id,
            number=target.number,
            set_time=timestamp_of(target.set_time),
            set_by=target.set_by,
        )
    return message


def lineage_message(graph: Graph) -> pb.Lineage:
    """Return a graph as its message."""
    message = pb.Lineage()
    for node in graph.nodes:
        message.nodes.add(id=node.id, kind=node.kind, label=node.label, digest=node.digest)
    for source, target, relation in graph.edges:
        message.edges.add(source=source, target=target, relation=relation)
    return message


def resolved_message(resolved: Resolved) -> internal_pb2.ResolvedModel:
    """Return a version, its files, and those of its base."""
    version, base = resolved.version, resolved.base
    message = internal_pb2.ResolvedModel(
        version=version_message(version),
        files=_files_message(version.id, version.files),
        shape=dict(version.shape),
        base_model_name=base.model_name if base else version.model_name,
    )
    if base is not None:
        message.base.CopyFrom(version_message(base))
        message.base_files.CopyFrom(_files_message(base.id, base.files))
    return message


def _files_message(version_id: str, files: Files | None) -> internal_pb2.ModelFiles:
    if files is None:
        return internal_pb2.ModelFiles(version_id=version_id)
    return internal_pb2.ModelFiles(
        version_id=version_id,
        bucket=files.bucket,
        prefix=files.prefix,
        manifest_json=files.manifest,
        digest=files.digest,
    )
