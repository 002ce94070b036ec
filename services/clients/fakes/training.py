"""Checkpoints in memory."""

from services.clients.fakes.memory import Outages, find
from services.clients.training import CheckpointInfo, TrainingClient


class FakeTraining(Outages, TrainingClient):
    """Knows the checkpoints that a test adds: (project, id) -> checkpoint; a project "" is every project."""

    def __init__(self) -> None:
        super().__init__()
        self.checkpoints: dict[tuple[str, str], CheckpointInfo] = {}

    def add(self, checkpoint: CheckpointInfo, project: str = "") -> None:
        """Make a checkpoint known."""
        self.checkpoints[project, checkpoint.checkpoint_id] = checkpoint

    async def checkpoint(self, project: str, checkpoint: str) -> CheckpointInfo:
        """See `TrainingClient.checkpoint`."""
        self._ask("checkpoint")
        return find(self.checkpoints, project, checkpoint, "checkpoint")
