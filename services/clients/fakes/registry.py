"""The registry in memory."""

from collections.abc import Sequence
from dataclasses import replace

from modelry.registry.v1 import registry_pb2
from services.clients.fakes.memory import HoldOwner, find
from services.clients.registry import ModelInfo, Publication, RegistryClient


class FakeRegistry(HoldOwner, RegistryClient):
    """Knows the models that a test adds; publishes by giving numbers.

    Attributes:
        models: (project, reference) -> version; a project "" is every project.
        published: what was published, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.models: dict[tuple[str, str], ModelInfo] = {}
        self.published: list[Publication] = []

    def add(self, model: ModelInfo, *references: str, project: str = "") -> ModelInfo:
        """Make a version known by its id and these references; the newest of an id counts."""
        for reference in (model.version_id, *references):
            self.models[project, reference] = model
        return model

    def change(self, version_id: str, *, state: str, failure: str = "") -> None:
        """Put a version into another state."""
        for key, model in self.models.items():
            if model.version_id == version_id:
                self.models[key] = replace(model, state=state, failure=failure)

    async def resolve(self, project: str, reference: str, holder: str = "") -> ModelInfo:
        """See `RegistryClient.resolve`."""
        self._ask("resolve")
        model = find(self.models, project, reference, "model")
        self.holds.take(project, holder, model.version_id, model.full.version_id)
        return model

    async def publish(self, project: str, publication: Publication) -> registry_pb2.ModelVersion:
        """See `RegistryClient.publish`."""
        self._ask("publish")
        same: Sequence[Publication] = [one for one in self.published if _key(one) == _key(publication)]
        if not same:
            self.published.append(publication)
        number = self.published.index(same[0] if same else publication) + 1
        return registry_pb2.ModelVersion(
            id=f"mv-tuned-{number}",
            model_name=publication.model_name,
            number=number,
            state=registry_pb2.ModelVersion.READY,
            kind=registry_pb2.ModelVersion.ADAPTER,
            base_model_version_id=publication.base_model_version_id,
            checkpoint_id=publication.checkpoint_id,
        )

    async def adapters_of(self, project: str, base_version_id: str) -> list[str]:
        """See `RegistryClient.adapters_of`."""
        self._ask("adapters_of")
        found = {
            model.version_id: None
            for (owner, _), model in self.models.items()
            if owner == project and model.state == "READY" and model.base and model.base.version_id == base_version_id
        }
        return list(reversed(found))


def _key(publication: Publication) -> tuple[str, str, str]:
    return publication.checkpoint_id, publication.model_name, publication.request_id
