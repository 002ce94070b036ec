"""Messages of the API to values of the rules, and back."""

from __future__ import annotations

import json

from modelry.dataset.v1 import dataset_pb2 as pb
from modelry.dataset.v1 import internal_pb2
from services.chassis.errors import Invalid
from services.chassis.proto_values import failure_of, timestamp_of
from services.dataset.domain import (
    BadRowPolicy,
    Dataset,
    DatasetVersion,
    Format,
    RefusedRow,
    Source,
    State,
    StoredFile,
    VersionView,
)
from services.dataset.operations.datasets import ShownDataset
from services.dataset.operations.preview import PreviewRow

_STATES = {
    State.IMPORTING: pb.DatasetVersion.IMPORTING,
    State.READY: pb.DatasetVersion.READY,
    State.PUBLISHED: pb.DatasetVersion.PUBLISHED,
    State.FAILED: pb.DatasetVersion.FAILED,
}


def file_message(file: StoredFile) -> pb.File:
    """Return a file as it is shown."""
    return pb.File(
        id=file.id,
        filename=file.filename,
        purpose=file.purpose,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        create_time=timestamp_of(file.create_time),
    )


def dataset_message(shown: ShownDataset) -> pb.Dataset:
    """Return a data set as it is shown."""
    dataset: Dataset = shown.dataset
    return pb.Dataset(
        id=dataset.id,
        name=dataset.name,
        title=dataset.title,
        metadata=dict(dataset.metadata),
        etag=str(dataset.version),
        latest_version=shown.latest_version,
        create_time=timestamp_of(dataset.create_time),
        update_time=timestamp_of(dataset.update_time),
    )


def version_message(view: VersionView) -> pb.DatasetVersion:
    """Return a version as it is shown, with its progress while it imports."""
    version = view.resource
    message = pb.DatasetVersion(
        id=version.id,
        dataset_id=version.dataset_id,
        dataset_name=version.dataset_name,
        number=version.number,
        state=_STATES[version.state],
        format=pb.DatasetVersion.Format.Value(version.format.name),
        columns=dict(version.columns),
        bad_row_policy=pb.DatasetVersion.BadRowPolicy.Value(version.bad_row_policy.name),
        max_bad_rows=version.max_bad_rows,
        draft=version.draft,
        bad_row_count=version.bad_row_count,
        version=version.version,
        cause=version.cause,
        create_time=timestamp_of(version.create_time),
        finish_time=timestamp_of(version.finish_time),
        failure=failure_of(version.failure),
        metadata=dict(version.metadata),
    )
    _fill_source(message, version.source)
    _fill_progress(message, view)
    _fill_outcome(message, version)
    return message


def _fill_source(message: pb.DatasetVersion, source: Source) -> None:
    if source.file_id:
        message.file_id = source.file_id
    else:
        message.object.credential = source.credential
        message.object.bucket = source.bucket
        message.object.prefix = source.prefix


def _fill_progress(message: pb.DatasetVersion, view: VersionView) -> None:
    if view.work is None:
        return
    message.bytes_read = view.work.bytes_read
    message.bytes_total = view.work.bytes_total
    message.row_count = view.work.row_count
    if view.resource.state is State.IMPORTING:
        message.bad_row_count = view.work.bad_row_count


def _fill_outcome(message: pb.DatasetVersion, version: DatasetVersion) -> None:
    if version.failure is not None:
        message.row_count = 0
    if version.output is None:
        return
    output = version.output
    message.format = pb.DatasetVersion.Format.Value(output.format.name)
    message.row_count = output.row_count
    message.digest = output.digest
    message.source_identity.update(output.identity)
    statistics = json.loads(output.statistics_json)
    shown = message.statistics
    for name in (
        "turn_count",
        "duplicate_row_count",
        "empty_answer_count",
        "character_count",
        "estimated_token_count",
        "tool_row_count",
    ):
        setattr(shown, name, statistics[name])
    shown.turns_by_role.update(statistics["turns_by_role"])
    shown.rows_by_token_length.update(statistics["rows_by_token_length"])


def source_of(message: pb.DatasetVersion) -> Source:
    """Return what a version is to be imported from.

    Raises: Invalid: it names none.
    """
    which = message.WhichOneof("source")
    if which is None:
        raise Invalid(
            "Say where the rows come from: an object (or a folder of several), or an uploaded file.",
            field="dataset_version.object",
            reason="REQUIRED_FIELD",
        )
    if which == "file_id":
        if not message.file_id:
            raise Invalid("The id of the file is empty.", field="dataset_version.file_id", reason="REQUIRED_FIELD")
        return Source(file_id=message.file_id)
    place = message.object
    return Source(credential=place.credential, bucket=place.bucket, prefix=place.prefix)


def format_of(message: pb.DatasetVersion) -> Format:
    """Return the chosen format. Raises: Invalid: this version of Modelry does not know it."""
    try:
        return Format(message.format)
    except ValueError as error:
        raise Invalid(f"{message.format} is no format.", field="dataset_version.format") from error


def policy_of(message: pb.DatasetVersion) -> BadRowPolicy:
    """Return what happens to bad rows; REJECT by default. Raises: Invalid."""
    try:
        return BadRowPolicy(message.bad_row_policy or BadRowPolicy.REJECT.value)
    except ValueError as error:
        raise Invalid(f"{message.bad_row_policy} is no policy.", field="dataset_version.bad_row_policy") from error


def row_error_message(row: RefusedRow) -> pb.RowError:
    """Return a refused row as it is shown."""
    return pb.RowError(line=row.line, field=row.field, code=row.code, message=row.message, source=row.source)


def preview_message(row: PreviewRow) -> pb.PreviewDatasetVersionResponse.Row:
    """Return a row as it was understood."""
    return pb.PreviewDatasetVersionResponse.Row(
        line=row.line,
        messages_json=row.messages_json,
        references=row.references,
        category=row.category,
        tools_json=row.tools_json,
    )


def resolved_message(version: DatasetVersion) -> internal_pb2.ResolvedDatasetVersion:
    """Return a published version, ready to read."""
    output = version.output
    assert output is not None
    return internal_pb2.ResolvedDatasetVersion(
        version_id=version.id,
        dataset_id=version.dataset_id,
        dataset_name=version.dataset_name,
        number=version.number,
        bucket=output.files.bucket,
        prefix=output.files.prefix,
        manifest_json=output.files.manifest_json,
        file="data.parquet",
        row_count=output.row_count,
        digest=output.digest,
        estimated_token_count=int(json.loads(output.statistics_json)["estimated_token_count"]),
        evaluation_pairs=output.pairs,
    )
