"""gRPC methods: message -> use case -> message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from google.api import httpbody_pb2
from google.protobuf.empty_pb2 import Empty

from modelry.dataset.v1 import dataset_pb2 as pb
from modelry.dataset.v1 import dataset_pb2_grpc, internal_pb2, internal_pb2_grpc
from services.chassis.auth import current
from services.chassis.clock import now
from services.chassis.data import PageQuery, request_digest
from services.chassis.holds import confirm_holds, release_holds
from services.chassis.proto_values import changes_of
from services.dataset import messages as to
from services.dataset.operations import datasets, files, holds, versions
from services.dataset.operations.context import Desk, check_page_size


class DatasetServicer(dataset_pb2_grpc.DatasetServiceServicer):
    """What the doors offer."""

    def __init__(self, desk: Desk, uploads: Path) -> None:
        """Args: uploads: a folder for files that are just coming in."""
        self._desk = desk
        self._uploads = uploads

    async def UploadFile(self, request_iterator: AsyncIterator[pb.UploadFileRequest], context: Any) -> pb.File:
        """Takes a file in."""
        requests = aiter(request_iterator)
        first = await anext(requests, pb.UploadFileRequest())
        upload = files.Upload(current().project, first.filename, first.purpose or "fine-tune", first.request_id)

        async def chunks() -> AsyncIterator[bytes]:
            yield first.data
            async for request in requests:
                yield request.data

        return to.file_message(await files.upload_file(self._desk, upload, chunks(), self._uploads, now()))

    async def GetFile(self, request: pb.GetFileRequest, context: Any) -> pb.File:
        """One file."""
        return to.file_message(await files.get_file(self._desk, current().project, request.file))

    async def ListFiles(self, request: pb.ListFilesRequest, context: Any) -> pb.ListFilesResponse:
        """Files."""
        page = await files.list_files(self._desk, current().project, _page(request))
        return pb.ListFilesResponse(
            files=[to.file_message(file) for file in page.items], next_page_token=page.next_page_token
        )

    async def DeleteFile(self, request: pb.DeleteFileRequest, context: Any) -> Empty:
        """Removes a file."""
        await files.delete_file(self._desk, current().project, request.file)
        return Empty()

    async def ReadFile(self, request: pb.ReadFileRequest, context: Any) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """The bytes of a file."""
        async for piece in files.read_file(self._desk, current().project, request.file):
            yield httpbody_pb2.HttpBody(content_type="application/octet-stream", data=piece)

    async def CreateDataset(self, request: pb.CreateDatasetRequest, context: Any) -> pb.Dataset:
        """Makes a data set."""
        wanted = request.dataset
        command = datasets.CreateDataset(
            current().project,
            wanted.name,
            wanted.title,
            dict(wanted.metadata),
            request.request_id,
            request_digest(request),
        )
        return to.dataset_message(await datasets.create_dataset(self._desk, command, now()))

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Any) -> pb.Dataset:
        """One data set."""
        return await self._get(request.dataset)

    async def _get(self, ref: str) -> pb.Dataset:
        return to.dataset_message(await datasets.get_dataset(self._desk, current().project, ref))

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Any) -> pb.ListDatasetsResponse:
        """Data sets."""
        page = await datasets.list_datasets(self._desk, current().project, _page(request))
        return pb.ListDatasetsResponse(
            datasets=[to.dataset_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    async def UpdateDataset(self, request: pb.UpdateDatasetRequest, context: Any) -> pb.Dataset:
        """Changes a data set."""
        wanted = request.dataset
        ref = wanted.id or wanted.name
        changes = await changes_of(request, lambda: self._get(ref))
        command = datasets.UpdateDataset(
            current().project,
            ref,
            changes.get("title"),
            changes.get("metadata"),
            wanted.etag,
        )
        return to.dataset_message(await datasets.update_dataset(self._desk, command, now()))

    async def DeleteDataset(self, request: pb.DeleteDatasetRequest, context: Any) -> Empty:
        """Removes a data set."""
        await datasets.delete_dataset(self._desk, current().project, request.dataset, now())
        return Empty()

    async def CreateDatasetVersion(self, request: pb.CreateDatasetVersionRequest, context: Any) -> pb.DatasetVersion:
        """Begins an import."""
        wanted = request.dataset_version
        command = versions.CreateVersion(
            project=current().project,
            dataset=request.dataset,
            create_dataset=request.create_dataset,
            source=to.source_of(wanted),
            format=to.format_of(wanted),
            columns=dict(wanted.columns),
            policy=to.policy_of(wanted),
            max_bad_rows=wanted.max_bad_rows,
            draft=wanted.draft,
            metadata=dict(wanted.metadata),
            request_id=request.request_id,
            digest=request_digest(request),
        )
        return to.version_message(await versions.create_version(self._desk, command, now()))

    async def GetDatasetVersion(self, request: pb.GetDatasetVersionRequest, context: Any) -> pb.DatasetVersion:
        """One version."""
        view = await versions.get_version(self._desk, current().project, request.dataset, request.version)
        return to.version_message(view)

    async def ListDatasetVersions(
        self, request: pb.ListDatasetVersionsRequest, context: Any
    ) -> pb.ListDatasetVersionsResponse:
        """Versions of a data set."""
        page = await versions.list_versions(self._desk, current().project, request.dataset, _page(request))
        return pb.ListDatasetVersionsResponse(
            dataset_versions=[to.version_message(view) for view in page.items], next_page_token=page.next_page_token
        )

    async def DeleteDatasetVersion(self, request: pb.DeleteDatasetVersionRequest, context: Any) -> Empty:
        """Removes a version."""
        await versions.delete_version(self._desk, current().project, request.dataset, request.version, now())
        return Empty()

    async def PublishDatasetVersion(self, request: pb.PublishDatasetVersionRequest, context: Any) -> pb.DatasetVersion:
        """Publishes a version."""
        repeat = (request.request_id, request_digest(request))
        view = await versions.publish_version(
            self._desk, current().project, request.dataset, request.version, repeat, now()
        )
        return to.version_message(view)

    async def PreviewDatasetVersion(
        self, request: pb.PreviewDatasetVersionRequest, context: Any
    ) -> pb.PreviewDatasetVersionResponse:
        """Rows as they were understood."""
        rows, token = await versions.preview_version(
            self._desk, current().project, request.dataset, request.version, request.page_size, request.page_token
        )
        return pb.PreviewDatasetVersionResponse(rows=[to.preview_message(row) for row in rows], next_page_token=token)

    async def ListRowErrors(self, request: pb.ListRowErrorsRequest, context: Any) -> pb.ListRowErrorsResponse:
        """Refused rows."""
        page = await versions.list_row_errors(
            self._desk, current().project, request.dataset, request.version, request.page_size, request.page_token
        )
        return pb.ListRowErrorsResponse(
            row_errors=[to.row_error_message(row) for row in page.rows],
            next_page_token=page.next_page_token,
            total_count=page.total_count,
        )

    async def WatchDatasetVersion(
        self, request: pb.WatchDatasetVersionRequest, context: Any
    ) -> AsyncIterator[pb.DatasetVersion]:
        """A version as it changes."""
        changes = versions.watch_version(
            self._desk, current().project, request.dataset, request.version, request.after_version
        )
        async for view in changes:
            yield to.version_message(view)

    async def BrowseObjects(self, request: pb.BrowseObjectsRequest, context: Any) -> pb.BrowseObjectsResponse:
        """Objects of a bucket."""
        size = check_page_size(request.page_size, 50, 1000)
        page = await self._desk.sources.browse(
            current().project, request.credential, request.bucket, request.prefix, size, request.page_token
        )
        answer = pb.BrowseObjectsResponse(folders=page.prefixes, next_page_token=page.next_token)
        for info in page.objects:
            entry = answer.objects.add(key=info.key, size_bytes=info.size)
            if info.modified is not None:
                entry.update_time.FromDatetime(info.modified)
        return answer


class DatasetInternalServicer(internal_pb2_grpc.DatasetInternalServiceServicer):
    """What other services ask."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def ResolveDatasetVersion(
        self, request: internal_pb2.ResolveDatasetVersionRequest, context: Any
    ) -> internal_pb2.ResolvedDatasetVersion:
        """The published version that a reference means."""
        version = await holds.resolve_version(self._desk, current().project, request.reference, request.holder, now())
        return to.resolved_message(version)

    async def ConfirmDatasetHold(self, request: internal_pb2.ConfirmDatasetHoldRequest, context: Any) -> Empty:
        """Makes holds lasting."""
        await confirm_holds(self._desk.writing(), current().project, request.holder)
        return Empty()

    async def ReleaseDatasetHold(self, request: internal_pb2.ReleaseDatasetHoldRequest, context: Any) -> Empty:
        """Lets go."""
        await release_holds(self._desk.writing(), current().project, request.holder)
        return Empty()


def _page(request: pb.ListFilesRequest | pb.ListDatasetsRequest | pb.ListDatasetVersionsRequest) -> PageQuery:
    return PageQuery(request.page_size, request.page_token, request.filter, request.order_by)
