"""Messages of the API to values of the rules, and back."""

import json

from google.protobuf import json_format

from modelry.common.v1 import common_pb2
from modelry.dataset.v1 import dataset_pb2 as pb
from modelry.dataset.v1 import internal_pb2
from services.chassis.errors import Invalid
from services.chassis.proto_values import message_of
from services.dataset.domain import (
    BadRowPolicy,
    DatasetVersion,
    Format,
    Output,
    Source,
    State,
    VersionView,
    Work,
)
from services.dataset.operations.datasets import ShownDataset


def dataset_message(shown: ShownDataset) -> pb.Dataset:
    """Return a data set as it is shown."""
    return message_of(pb.Dataset, shown.dataset, latest_version=shown.latest_version)


def version_message(view: VersionView) -> pb.DatasetVersion:
    """Return a version as it is shown, with its progress while it imports."""
    version, work = view.resource, view.work or Work(view.resource.id)
    source, output = version.source, version.output
    importing = view.work is not None and version.state is State.IMPORTING
    rows = output.row_count if output else 0 if version.failure else work.row_count
    return message_of(
        pb.DatasetVersion,
        version,
        file_id=source.file_id or None,
        object=None if source.file_id else _location(source),
        format=(output or version).format,
        row_count=rows,
        bad_row_count=work.bad_row_count if importing else version.bad_row_count,
        bytes_read=work.bytes_read,
        bytes_total=work.bytes_total,
        digest=output.digest if output else "",
        source_identity=output.identity if output else {},
        statistics=_statistics(output) if output else None,
    )


def _location(source: Source) -> common_pb2.ObjectLocation:
    return common_pb2.ObjectLocation(credential=source.credential, bucket=source.bucket, prefix=source.prefix)


def _statistics(output: Output) -> pb.DatasetVersion.Statistics:
    return json_format.Parse(output.statistics_json, pb.DatasetVersion.Statistics(), ignore_unknown_fields=True)


def source_of(message: pb.DatasetVersion) -> Source:
    """Return what a version is to be imported from. Raises: Invalid: it names none."""
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
