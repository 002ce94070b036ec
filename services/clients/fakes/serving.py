"""Deployments in memory."""

from services.clients.fakes.memory import Outages, find
from services.clients.serving import DeploymentInfo, ServingClient


class FakeServing(Outages, ServingClient):
    """Knows the deployments that a test adds: (project, name or id) -> deployment; a project "" is every project."""

    def __init__(self) -> None:
        super().__init__()
        self.deployments: dict[tuple[str, str], DeploymentInfo] = {}

    def add(self, deployment: DeploymentInfo, name: str, project: str = "") -> None:
        """Make a deployment known by its id and name."""
        for reference in (deployment.deployment_id, name):
            self.deployments[project, reference] = deployment

    async def deployment(self, project: str, deployment: str) -> DeploymentInfo:
        """See `ServingClient.deployment`."""
        self._ask("deployment")
        return find(self.deployments, project, deployment, "deployment")
