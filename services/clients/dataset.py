"""What services ask of data sets: resolve a version, hold it."""

from dataclasses import dataclass

from modelry.dataset.v1 import internal_pb2, internal_pb2_grpc
from services.chassis.objects import StoredFiles
from services.chassis.rpc import Connections


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """A published data set version.

    Attributes:
        files: its folder on the installation's store; `file` is the Parquet file in it.
        token_count: estimated tokens of all rows.
        evaluation_pairs: its rows carry references to score with: it is an evaluation set.
    """

    version_id: str
    dataset_name: str
    number: int
    files: StoredFiles
    file: str
    row_count: int
    token_count: int = 0
    evaluation_pairs: bool = False

    @property
    def label(self) -> str:
        """Its name and number, for people."""
        return f"{self.dataset_name}@{self.number}"


class DatasetClient:
    """Asks the dataset service in the name of a project."""

    def __init__(self, connections: Connections) -> None:
        self._internal = internal_pb2_grpc.DatasetInternalServiceStub(
            connections.channel("dataset", internal_pb2.DESCRIPTOR)
        )
        self._metadata = connections.metadata

    async def resolve(self, project: str, reference: str, holder: str = "") -> DatasetInfo:
        """The published version that a reference means; with a holder it is held.

        Raises: Invalid, NotFound; WrongState: it is not published.
        """
        request = internal_pb2.ResolveDatasetVersionRequest(reference=reference, holder=holder)
        answer = await self._internal.ResolveDatasetVersion(request, metadata=self._metadata(project))
        return DatasetInfo(
            version_id=answer.version_id,
            dataset_name=answer.dataset_name,
            number=answer.number,
            files=StoredFiles(answer.bucket, answer.prefix, answer.manifest_json),
            file=answer.file,
            row_count=answer.row_count,
            token_count=answer.estimated_token_count,
            evaluation_pairs=answer.evaluation_pairs,
        )

    async def confirm_hold(self, project: str, holder: str) -> None:
        """Make the holds of a holder lasting. Idempotent."""
        request = internal_pb2.ConfirmDatasetHoldRequest(holder=holder)
        await self._internal.ConfirmDatasetHold(request, metadata=self._metadata(project))

    async def release_hold(self, project: str, holder: str) -> None:
        """Let go of everything that a holder holds. Idempotent."""
        request = internal_pb2.ReleaseDatasetHoldRequest(holder=holder)
        await self._internal.ReleaseDatasetHold(request, metadata=self._metadata(project))
