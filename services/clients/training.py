"""What services ask of training: where a checkpoint is."""

from dataclasses import dataclass

from modelry.training.v1 import internal_pb2, internal_pb2_grpc
from services.chassis.objects import StoredFiles
from services.chassis.rpc import Connections


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """A checkpoint: its servable adapter, and the base that the adapter adapts."""

    checkpoint_id: str
    base_model_version_id: str
    adapter: StoredFiles
    job_id: str = ""
    step: int = 0


class TrainingClient:
    """Asks training in the name of a project."""

    def __init__(self, connections: Connections) -> None:
        self._internal = internal_pb2_grpc.TrainingInternalServiceStub(
            connections.channel("training", internal_pb2.DESCRIPTOR)
        )
        self._metadata = connections.metadata

    async def checkpoint(self, project: str, checkpoint: str) -> CheckpointInfo:
        """One checkpoint. Raises: NotFound, Invalid: it holds no servable adapter."""
        request = internal_pb2.ResolveCheckpointRequest(checkpoint=checkpoint)
        answer = await self._internal.ResolveCheckpoint(request, metadata=self._metadata(project))
        return CheckpointInfo(
            checkpoint_id=answer.checkpoint_id,
            base_model_version_id=answer.base_model_version_id,
            adapter=StoredFiles(answer.bucket, answer.prefix, answer.manifest_json, answer.credential),
            job_id=answer.job_id,
            step=answer.step,
        )
