"""gRPC methods: message -> use case -> message."""

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
from services.chassis.proto_values import creation_of, labels_update_of, message_of, page_message, value_of
from services.dataset import messages as to
from services.dataset.operations import datasets, files, holds, versions
from services.dataset.operations.context import ServiceContext, check_page_size


class DatasetServicer(dataset_pb2_grpc.DatasetServiceServicer):
    """The public methods; the protos say what each does."""

    def __init__(self, context: ServiceContext, uploads: Path) -> None:
        """Args: uploads: a folder for files that are just coming in."""
        self._context = context
        self._uploads = uploads

    async def UploadFile(self, request_iterator: AsyncIterator[pb.UploadFileRequest], call: Any) -> pb.File:
        requests = aiter(request_iterator)
        first = await anext(requests, pb.UploadFileRequest())
        upload = files.Upload(current().project, first.filename, first.purpose or "fine-tune", first.request_id)

        async def chunks() -> AsyncIterator[bytes]:
            yield first.data
            async for request in requests:
                yield request.data

        return message_of(pb.File, await files.upload_file(upload, chunks(), self._uploads, self._context, now()))

    async def GetFile(self, request: pb.GetFileRequest, call: Any) -> pb.File:
        return message_of(pb.File, await files.get_file(current().project, request.file, self._context))

    async def ListFiles(self, request: pb.ListFilesRequest, call: Any) -> pb.ListFilesResponse:
        page = await files.list_files(current().project, PageQuery.of(request), self._context)
        return page_message(pb.ListFilesResponse, page)

    async def DeleteFile(self, request: pb.DeleteFileRequest, call: Any) -> Empty:
        await files.delete_file(current().project, request.file, self._context)
        return Empty()

    async def ReadFile(self, request: pb.ReadFileRequest, call: Any) -> AsyncIterator[httpbody_pb2.HttpBody]:
        async for piece in files.read_file(current().project, request.file, self._context):
            yield httpbody_pb2.HttpBody(content_type="application/octet-stream", data=piece)

    async def CreateDataset(self, request: pb.CreateDatasetRequest, call: Any) -> pb.Dataset:
        command = creation_of(request, request_digest(request))
        return to.dataset_message(await datasets.create_dataset(command, self._context, now()))

    async def GetDataset(self, request: pb.GetDatasetRequest, call: Any) -> pb.Dataset:
        return await self._get(request.dataset)

    async def _get(self, ref: str) -> pb.Dataset:
        return to.dataset_message(await datasets.get_dataset(current().project, ref, self._context))

    async def ListDatasets(self, request: pb.ListDatasetsRequest, call: Any) -> pb.ListDatasetsResponse:
        page = await datasets.list_datasets(current().project, PageQuery.of(request), self._context)
        return page_message(pb.ListDatasetsResponse, page, to.dataset_message)

    async def UpdateDataset(self, request: pb.UpdateDatasetRequest, call: Any) -> pb.Dataset:
        command = await labels_update_of(request, self._get)
        return to.dataset_message(await datasets.update_dataset(command, self._context, now()))

    async def DeleteDataset(self, request: pb.DeleteDatasetRequest, call: Any) -> Empty:
        await datasets.delete_dataset(current().project, request.dataset, self._context, now())
        return Empty()

    async def CreateDatasetVersion(self, request: pb.CreateDatasetVersionRequest, call: Any) -> pb.DatasetVersion:
        wanted = request.dataset_version
        command = value_of(
            versions.CreateVersion,
            wanted,
            project=current().project,
            dataset=request.dataset,
            create_dataset=request.create_dataset,
            source=to.source_of(wanted),
            format=to.format_of(wanted),
            policy=to.policy_of(wanted),
            request_id=request.request_id,
            digest=request_digest(request),
        )
        return to.version_message(await versions.create_version(command, self._context, now()))

    async def GetDatasetVersion(self, request: pb.GetDatasetVersionRequest, call: Any) -> pb.DatasetVersion:
        view = await versions.get_version(current().project, request.dataset, request.version, self._context)
        return to.version_message(view)

    async def ListDatasetVersions(
        self, request: pb.ListDatasetVersionsRequest, call: Any
    ) -> pb.ListDatasetVersionsResponse:
        page = await versions.list_versions(current().project, request.dataset, PageQuery.of(request), self._context)
        return page_message(pb.ListDatasetVersionsResponse, page, to.version_message)

    async def DeleteDatasetVersion(self, request: pb.DeleteDatasetVersionRequest, call: Any) -> Empty:
        await versions.delete_version(current().project, request.dataset, request.version, self._context, now())
        return Empty()

    async def PublishDatasetVersion(self, request: pb.PublishDatasetVersionRequest, call: Any) -> pb.DatasetVersion:
        repeat = (request.request_id, request_digest(request))
        view = await versions.publish_version(
            current().project, request.dataset, request.version, repeat, self._context, now()
        )
        return to.version_message(view)

    async def PreviewDatasetVersion(
        self, request: pb.PreviewDatasetVersionRequest, call: Any
    ) -> pb.PreviewDatasetVersionResponse:
        rows, token = await versions.preview_version(
            current().project, request.dataset, request.version, request.page_size, request.page_token, self._context
        )
        shown = [message_of(pb.PreviewDatasetVersionResponse.Row, row) for row in rows]
        return pb.PreviewDatasetVersionResponse(rows=shown, next_page_token=token)

    async def ListRowErrors(self, request: pb.ListRowErrorsRequest, call: Any) -> pb.ListRowErrorsResponse:
        page = await versions.list_row_errors(
            current().project, request.dataset, request.version, request.page_size, request.page_token, self._context
        )
        return pb.ListRowErrorsResponse(
            row_errors=[message_of(pb.RowError, row) for row in page.rows],
            next_page_token=page.next_page_token,
            total_count=page.total_count,
        )

    async def WatchDatasetVersion(
        self, request: pb.WatchDatasetVersionRequest, call: Any
    ) -> AsyncIterator[pb.DatasetVersion]:
        changes = versions.watch_version(
            current().project, request.dataset, request.version, request.after_version, self._context
        )
        async for view in changes:
            yield to.version_message(view)

    async def BrowseObjects(self, request: pb.BrowseObjectsRequest, call: Any) -> pb.BrowseObjectsResponse:
        size = check_page_size(request.page_size, 50, 1000)
        page = await self._context.sources.browse(
            current().project, request.credential, request.bucket, request.prefix, size, request.page_token
        )
        answer = pb.BrowseObjectsResponse(folders=page.prefixes, next_page_token=page.next_token)
        for info in page.objects:
            entry = answer.objects.add(key=info.key, size_bytes=info.size)
            if info.modified is not None:
                entry.update_time.FromDatetime(info.modified)
        return answer


class DatasetInternalServicer(internal_pb2_grpc.DatasetInternalServiceServicer):
    """What other services ask; the protos say what each method does."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def ResolveDatasetVersion(
        self, request: internal_pb2.ResolveDatasetVersionRequest, call: Any
    ) -> internal_pb2.ResolvedDatasetVersion:
        version = await holds.resolve_version(
            current().project, request.reference, request.holder, self._context, now()
        )
        return to.resolved_message(version)

    async def ConfirmDatasetHold(self, request: internal_pb2.ConfirmDatasetHoldRequest, call: Any) -> Empty:
        await confirm_holds(self._context.writing(), current().project, request.holder)
        return Empty()

    async def ReleaseDatasetHold(self, request: internal_pb2.ReleaseDatasetHoldRequest, call: Any) -> Empty:
        await release_holds(self._context.writing(), current().project, request.holder)
        return Empty()
