"""Data sets in memory."""

from services.chassis.errors import WrongState
from services.clients.dataset import DatasetClient, DatasetInfo
from services.clients.fakes.memory import HoldOwner, find


class FakeDatasets(HoldOwner, DatasetClient):
    """Knows the versions that a test adds.

    Attributes:
        versions: (project, reference) -> version; a project "" is every project.
        unpublished: ids of versions that are drafts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[tuple[str, str], DatasetInfo] = {}
        self.unpublished: set[str] = set()

    def add(self, version: DatasetInfo, project: str = "") -> DatasetInfo:
        """Make a version known by its id, its label and its data set's name."""
        for reference in (version.version_id, version.label, version.dataset_name):
            self.versions[project, reference] = version
        return version

    async def resolve(self, project: str, reference: str, holder: str = "") -> DatasetInfo:
        """See `DatasetClient.resolve`."""
        self._ask("resolve")
        version = find(self.versions, project, reference, "dataset")
        if version.version_id in self.unpublished:
            raise WrongState.of("dataset version", version.label, "use", "READY", ["PUBLISHED"])
        self.holds.take(project, holder, version.version_id)
        return version
