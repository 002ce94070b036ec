"""Tables and queries of serving."""

from sqlalchemy import delete, update

from modelry.serving.v1 import serving_pb2 as pb
from services.chassis.data import Database, Repository, UnitOfWork, chassis_metadata, table_of
from services.serving.domain.entities import Deployment, Replica, ReplicaState

metadata = chassis_metadata()

DEPLOYMENTS = table_of(Deployment, metadata, "deployments", indexes=(("model_version_id",),))
REPLICAS = table_of(Replica, metadata, "replicas", indexes=(("deployment_id", "create_time", "id"), ("state",)))

ENDED = (ReplicaState.ENDED, ReplicaState.FAILED)


class ServingUnit(UnitOfWork):
    """One transaction of serving."""

    def __init__(self, database: Database, *, write: bool = True) -> None:
        super().__init__(database, write=write)
        self.deployments = Repository(
            self,
            DEPLOYMENTS,
            Deployment,
            "deployment",
            message=pb.Deployment,
        )
        self.replicas = Repository(self, REPLICAS, Replica, "replica")

    async def replicas_of(self, deployment_id: str) -> list[Replica]:
        """Return every replica of a deployment that has not ended, oldest first."""
        columns = REPLICAS.c
        return await self.replicas.select(
            columns.deployment_id == deployment_id,
            columns.state.not_in(ENDED),
            order_by=(columns.create_time, columns.id),
        )

    async def living_replicas(self) -> list[Replica]:
        """Return every replica that has not ended."""
        return await self.replicas.select(REPLICAS.c.state.not_in(ENDED))

    async def ended_replicas(self, deployment_id: str) -> list[Replica]:
        """Return every replica of a deployment that has ended, newest first."""
        columns = REPLICAS.c
        return await self.replicas.select(
            columns.deployment_id == deployment_id,
            columns.state.in_(ENDED),
            order_by=(columns.create_time.desc(), columns.id.desc()),
        )

    async def meter(self, deployment: Deployment, hours: float) -> None:
        """Add used replica-hours to the slice; a high-rate fact, so the version stays."""
        columns = DEPLOYMENTS.c
        values = {"slice_hours": columns.slice_hours + hours, "used_hours": columns.used_hours + hours}
        await self.connection.execute(update(DEPLOYMENTS).where(columns.id == deployment.id).values(values))

    async def next_slice(self, deployment_id: str, before: int, number: int) -> None:
        """Begin a slice of the ledger once the one before was booked."""
        columns = DEPLOYMENTS.c
        same = (columns.id == deployment_id, columns.slice == before)
        await self.connection.execute(update(DEPLOYMENTS).where(*same).values(slice=number, slice_hours=0.0))

    async def remove(self, deployment: Deployment) -> None:
        """Delete a deployment with all its replicas."""
        await self.connection.execute(delete(REPLICAS).where(REPLICAS.c.deployment_id == deployment.id))
        await self.deployments.delete(deployment)
