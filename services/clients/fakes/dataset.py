"""Data sets in memory."""

from __future__ import annotations

from services.chassis.errors import NotFound, WrongState
from services.clients.dataset import DatasetClient, DatasetInfo
from services.clients.fakes.holds import Holds
from services.clients.fakes.outages import Outages


class FakeDatasets(Outages, DatasetClient):
    """Knows the versions that a test adds.

    Attributes:
        versions: (project, reference) -> version; a project "" is every project.
        unpublished: ids of versions that are drafts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[tuple[str, str], DatasetInfo] = {}
        self.unpublished: set[str] = set()
        self.holds = Holds()

    def add(self, version: DatasetInfo, project: str = "") -> DatasetInfo:
        """Make a version known by its id, its label and its data set's name."""
        for reference in (version.version_id, version.label, version.dataset_name):
            self.versions[project, reference] = version
        return version

    async def resolve(self, project: str, reference: str, holder: str = "") -> DatasetInfo:
        """See `DatasetClient.resolve`."""
        self._ask("resolve")
        version = self.versions.get((project, reference)) or self.versions.get(("", reference))
        if version is None:
            raise NotFound.of("dataset", reference)
        if version.version_id in self.unpublished:
            raise WrongState.of("dataset version", version.label, "use", "READY", ["PUBLISHED"])
        self.holds.take(project, holder, version.version_id)
        return version

    async def confirm_hold(self, project: str, holder: str) -> None:
        """See `DatasetClient.confirm_hold`."""
        self._ask("confirm_hold")
        self.holds.confirm(project, holder)

    async def release_hold(self, project: str, holder: str) -> None:
        """See `DatasetClient.release_hold`."""
        self._ask("release_hold")
        self.holds.release(project, holder)
