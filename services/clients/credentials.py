"""What services ask of access: the store that a credential opens, the id of a project, the key of a deployment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelry.access.v1 import internal_pb2, internal_pb2_grpc
from services.chassis.auth import Role
from services.chassis.errors import Invalid, NotFound, WrongState, at_field
from services.chassis.objects import ForeignRules, StoreAccess
from services.chassis.rpc import Connections

if TYPE_CHECKING:
    from services.chassis.garbage import Garbage

BUILTIN = "builtin"
"""The credential of the installation's own store."""


@dataclass(frozen=True)
class OpenedStore:
    """A resolved credential: the store, and the bucket of this use."""

    access: StoreAccess
    bucket: str


@dataclass(frozen=True)
class ProjectInfo:
    """A project."""

    id: str
    name: str


@dataclass(frozen=True)
class IssuedKey:
    """The key of a deployment; the secret is empty when the key was made before."""

    id: str
    secret: str = field(default="", repr=False)


class CredentialClient:
    """Asks access in the name of a project."""

    def __init__(self, connections: Connections) -> None:
        self._internal = internal_pb2_grpc.AccessInternalServiceStub(
            connections.channel("access", internal_pb2.DESCRIPTOR)
        )
        self._metadata = connections.metadata

    async def resolve(self, project: str, credential: str, bucket: str) -> OpenedStore:
        """The store that a credential opens. Raises: NotFound; Invalid: no bucket, or one it is not for."""
        request = internal_pb2.ResolveCredentialRequest(credential=credential, bucket=bucket)
        answer = await self._internal.ResolveCredential(request, metadata=self._metadata(project))
        rules = answer.foreign
        foreign = ForeignRules(tuple(rules.allowed), tuple(rules.own_ports)) if answer.HasField("foreign") else None
        region = answer.region or "us-east-1"
        access = StoreAccess(answer.endpoint, answer.access_key, answer.secret_key, region, answer.ca_file, foreign)
        return OpenedStore(access, answer.bucket)

    async def store_of(self, garbage: Garbage) -> tuple[StoreAccess, str]:
        """The store and the bucket of files to delete. Raises: NotFound: the credential is gone."""
        found = await self.resolve(garbage.project, garbage.credential, garbage.bucket)
        return found.access, found.bucket

    async def project(self, project: str, name: str, *, role: Role = Role.OWNER) -> ProjectInfo:
        """Any project, by its name or id. Raises: NotFound."""
        request = internal_pb2.ResolveProjectRequest(project=name)
        answer = await self._internal.ResolveProject(request, metadata=self._metadata(project, role=role))
        return ProjectInfo(answer.id, answer.name)

    async def issue_deployment_key(
        self, project: str, deployment_id: str, models: Sequence[str], name: str
    ) -> IssuedKey:
        """Make the key of a deployment for these call names. Idempotent by deployment: a repeat has no secret."""
        request = internal_pb2.IssueDeploymentKeyRequest(deployment_id=deployment_id, models=models, name=name)
        answer = await self._internal.IssueDeploymentKey(request, metadata=self._metadata(project))
        return IssuedKey(answer.id, answer.secret)

    async def revoke_deployment_key(self, project: str, deployment_id: str) -> None:
        """Revoke the key of a deployment, if it has one. Idempotent."""
        request = internal_pb2.RevokeDeploymentKeyRequest(deployment_id=deployment_id)
        await self._internal.RevokeDeploymentKey(request, metadata=self._metadata(project))


async def open_location(
    credentials: CredentialClient, project: str, credential: str, bucket: str, path: str
) -> OpenedStore:
    """The store and bucket of the location that a request gives at `path` (`job.output`; empty: the request itself).

    Raises: NotFound, WrongState: at `path.credential`. Invalid: at `path.bucket`.
    """
    prefix = f"{path}." if path else ""
    try:
        return await credentials.resolve(project, credential, bucket)
    except Invalid as error:
        raise at_field(error, f"{prefix}bucket") from error
    except (NotFound, WrongState) as error:
        raise at_field(error, f"{prefix}credential") from error
