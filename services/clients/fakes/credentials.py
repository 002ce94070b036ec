"""Access in memory."""

from collections.abc import Sequence

from services.chassis.auth import Role
from services.chassis.errors import Invalid, NotFound
from services.chassis.objects import StoreAccess
from services.clients.credentials import BUILTIN, CredentialClient, IssuedKey, OpenedStore, ProjectInfo
from services.clients.fakes.memory import Outages, find


class FakeCredentials(Outages, CredentialClient):
    """Knows the credentials and projects that a test adds.

    Attributes:
        stores: (project, credential) -> store and the bucket that it is for; a project "" is every project.
        keys: deployment id -> id of its key; `revoked` are the deployments whose keys were revoked.
    """

    def __init__(self, access: StoreAccess | None = None, bucket: str = "") -> None:
        """Args: access, bucket: of the installation's own store."""
        super().__init__()
        self.stores: dict[tuple[str, str], OpenedStore] = {}
        self.projects: dict[str, ProjectInfo] = {}
        self.keys: dict[str, str] = {}
        self.revoked: set[str] = set()
        if access is not None:
            self.stores["", BUILTIN] = OpenedStore(access, bucket)

    def add(self, name: str, access: StoreAccess, bucket: str = "", project: str = "") -> None:
        """Make a credential known; with a bucket it is for that one alone."""
        self.stores[project, name] = OpenedStore(access, bucket)

    def add_project(self, project_id: str, name: str) -> None:
        """Make a project known."""
        self.projects[project_id] = self.projects[name] = ProjectInfo(project_id, name)

    async def resolve(self, project: str, credential: str, bucket: str) -> OpenedStore:
        """See `CredentialClient.resolve`."""
        self._ask("resolve")
        name = credential or BUILTIN
        found = find(self.stores, project, name, "credential")
        if found.bucket and bucket not in ("", found.bucket):
            message = f"The credential {name!r} is for the bucket {found.bucket!r} only, not for {bucket!r}."
            raise Invalid(message, field="bucket", reason="WRONG_BUCKET")
        if not found.bucket and not bucket:
            message = f"Say which bucket: the credential {name!r} is not for one alone."
            raise Invalid(message, field="bucket", reason="REQUIRED_FIELD")
        return OpenedStore(found.access, bucket or found.bucket)

    async def project(self, project: str, name: str, *, role: Role = Role.OWNER) -> ProjectInfo:
        """See `CredentialClient.project`."""
        self._ask("project")
        if name not in self.projects:
            raise NotFound.of("project", name)
        return self.projects[name]

    async def issue_deployment_key(
        self, project: str, deployment_id: str, models: Sequence[str], name: str
    ) -> IssuedKey:
        """See `CredentialClient.issue_deployment_key`."""
        self._ask("issue_deployment_key")
        if deployment_id in self.keys:
            return IssuedKey(self.keys[deployment_id])
        self.keys[deployment_id] = f"key-{len(self.keys) + 1}"
        return IssuedKey(self.keys[deployment_id], "mk-secret")

    async def revoke_deployment_key(self, project: str, deployment_id: str) -> None:
        """See `CredentialClient.revoke_deployment_key`."""
        self._ask("revoke_deployment_key")
        self.revoked.add(deployment_id)
