"""What evaluation asks of the other services, in its own words. One adapter over gRPC; tests have a fake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from modelry.access.v1 import internal_pb2 as access_pb
from modelry.billing.v1 import internal_pb2 as billing_pb
from modelry.common.v1 import common_pb2
from modelry.dataset.v1 import internal_pb2 as dataset_pb
from modelry.registry.v1 import internal_pb2 as registry_pb
from modelry.registry.v1 import registry_pb2
from modelry.serving.v1 import internal_pb2 as serving_pb
from modelry.training.v1 import internal_pb2 as training_pb
from services.chassis.objects import StoreAccess
from services.chassis.rpc import Peers

PRICE_ITEM = "evaluation-minute"


@dataclass(frozen=True)
class FilesInfo:
    """Files of a model on a store. credential "" is the installation's own store."""

    bucket: str
    prefix: str
    manifest: str
    credential: str = ""


@dataclass(frozen=True)
class ModelInfo:
    """A model version as evaluation needs it: a base alone, or an adapter and its base."""

    version_id: str
    state: str
    failure: str
    parameter_count: int
    base: FilesInfo
    adapter: FilesInfo | None


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint that is not published: its servable adapter and the base that it adapts."""

    base_model_version_id: str
    adapter: FilesInfo


@dataclass(frozen=True)
class DatasetInfo:
    """A published data set version as evaluation needs it."""

    version_id: str
    files: FilesInfo
    file: str
    row_count: int
    evaluation_pairs: bool


@dataclass(frozen=True)
class StoreInfo:
    """A resolved credential: the store, and the bucket to use."""

    access: StoreAccess
    bucket: str


class Neighbours(Protocol):
    """The questions that evaluation asks. Every method names the project that it asks for."""

    async def model(self, project: str, reference: str, holder: str = "") -> ModelInfo:
        """The version that a reference means; with a holder it is held and prepared. Raises NotFound."""

    async def checkpoint(self, project: str, checkpoint: str) -> CheckpointInfo:
        """Where a checkpoint is. Raises NotFound."""

    async def deployment(self, project: str, deployment: str) -> str:
        """The id of the version that a deployment serves now. Raises NotFound."""

    async def dataset(self, project: str, reference: str, holder: str = "") -> DatasetInfo:
        """The published version that a reference means; with a holder it is held. Raises NotFound, WrongState."""

    async def store(self, project: str, credential: str, bucket: str) -> StoreInfo:
        """The store that a credential opens. Raises NotFound, Invalid."""

    async def quote(
        self, project: str, minutes: tuple[float, float], spec_digest: str, description: str, notes: Sequence[str]
    ) -> common_pb2.Quote:
        """A quote for an estimate."""

    async def reserve(self, project: str, holder: str, minutes: float, quote_id: str, spec_digest: str) -> Decimal:
        """Sets money aside; returns the price of a minute. Raises WrongState (QUOTE_STALE), OverLimit."""

    async def confirm(self, project: str, holder: str) -> None:
        """Keeps the reservation and holds until they are let go."""

    async def settle(self, project: str, holder: str, minutes: float) -> None:
        """Books what was used, frees the rest, and lets go of what was held."""

    async def release(self, project: str, holder: str) -> None:
        """Frees the reservation without a booking, and the holds."""


class PeerNeighbours:
    """The neighbours over gRPC."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def model(self, project: str, reference: str, holder: str = "") -> ModelInfo:
        """See `Neighbours.model`."""
        answer = await self._peers.registry_internal.ResolveModel(
            registry_pb.ResolveModelRequest(reference=reference, holder=holder), metadata=self._peers.metadata(project)
        )
        version = answer.version
        adapted = version.kind == registry_pb2.ModelVersion.ADAPTER
        states = {one.version.State.Name(one.version.state) for one in (answer,)}
        if adapted:
            states.add(registry_pb2.ModelVersion.State.Name(answer.base.state))
        worst = next((state for state in ("FAILED", "PREPARING", "AVAILABLE") if state in states), "READY")
        return ModelInfo(
            version_id=version.id,
            state=worst,
            failure=version.failure.message or answer.base.failure.message,
            parameter_count=(answer.base if adapted else version).parameter_count,
            base=_files(answer.base_files if adapted else answer.files),
            adapter=_files(answer.files) if adapted else None,
        )

    async def checkpoint(self, project: str, checkpoint: str) -> CheckpointInfo:
        """See `Neighbours.checkpoint`."""
        answer = await self._peers.training_internal.ResolveCheckpoint(
            training_pb.ResolveCheckpointRequest(checkpoint=checkpoint), metadata=self._peers.metadata(project)
        )
        files = FilesInfo(answer.bucket, answer.prefix, answer.manifest_json, answer.credential)
        return CheckpointInfo(answer.base_model_version_id, files)

    async def deployment(self, project: str, deployment: str) -> str:
        """See `Neighbours.deployment`."""
        answer = await self._peers.serving_internal.ResolveDeployment(
            serving_pb.ResolveDeploymentRequest(deployment=deployment), metadata=self._peers.metadata(project)
        )
        return str(answer.model_version_id)

    async def dataset(self, project: str, reference: str, holder: str = "") -> DatasetInfo:
        """See `Neighbours.dataset`."""
        answer = await self._peers.dataset_internal.ResolveDatasetVersion(
            dataset_pb.ResolveDatasetVersionRequest(reference=reference, holder=holder),
            metadata=self._peers.metadata(project),
        )
        files = FilesInfo(answer.bucket, answer.prefix, answer.manifest_json)
        return DatasetInfo(answer.version_id, files, answer.file, answer.row_count, answer.evaluation_pairs)

    async def store(self, project: str, credential: str, bucket: str) -> StoreInfo:
        """See `Neighbours.store`."""
        answer = await self._peers.access_internal.ResolveCredential(
            access_pb.ResolveCredentialRequest(credential=credential, bucket=bucket),
            metadata=self._peers.metadata(project),
        )
        access = StoreAccess(answer.endpoint, answer.access_key, answer.secret_key, answer.region or "us-east-1")
        return StoreInfo(access, answer.bucket)

    async def quote(
        self, project: str, minutes: tuple[float, float], spec_digest: str, description: str, notes: Sequence[str]
    ) -> common_pb2.Quote:
        """See `Neighbours.quote`."""
        low, high = minutes
        item = common_pb2.Quote.Item(description=description, unit=PRICE_ITEM, quantity_low=low, quantity_high=high)
        return await self._peers.billing_internal.CreateQuote(
            billing_pb.CreateQuoteRequest(items=[item], spec_digest=spec_digest, notes=list(notes)),
            metadata=self._peers.metadata(project),
        )

    async def reserve(self, project: str, holder: str, minutes: float, quote_id: str, spec_digest: str) -> Decimal:
        """See `Neighbours.reserve`."""
        request = billing_pb.ReserveRequest(
            reservation_id=holder, item=PRICE_ITEM, quantity=minutes, quote_id=quote_id, spec_digest=spec_digest
        )
        answer = await self._peers.billing_internal.Reserve(request, metadata=self._peers.metadata(project))
        return Decimal(answer.unit_price.units) + Decimal(answer.unit_price.nanos).scaleb(-9)

    async def confirm(self, project: str, holder: str) -> None:
        """See `Neighbours.confirm`."""
        metadata: Any = self._peers.metadata(project)
        registry, dataset = self._peers.registry_internal, self._peers.dataset_internal
        await registry.ConfirmModelHold(registry_pb.ConfirmModelHoldRequest(holder=holder), metadata=metadata)
        await dataset.ConfirmDatasetHold(dataset_pb.ConfirmDatasetHoldRequest(holder=holder), metadata=metadata)
        await self._peers.billing_internal.Confirm(billing_pb.ConfirmRequest(reservation_id=holder), metadata=metadata)

    async def settle(self, project: str, holder: str, minutes: float) -> None:
        """See `Neighbours.settle`."""
        request = billing_pb.SettleRequest(reservation_id=holder, quantity=minutes)
        await self._peers.billing_internal.Settle(request, metadata=self._peers.metadata(project))
        await self._let_go(project, holder)

    async def release(self, project: str, holder: str) -> None:
        """See `Neighbours.release`."""
        request = billing_pb.ReleaseRequest(reservation_id=holder)
        await self._peers.billing_internal.Release(request, metadata=self._peers.metadata(project))
        await self._let_go(project, holder)

    async def _let_go(self, project: str, holder: str) -> None:
        metadata: Any = self._peers.metadata(project)
        registry, dataset = self._peers.registry_internal, self._peers.dataset_internal
        await registry.ReleaseModelHold(registry_pb.ReleaseModelHoldRequest(holder=holder), metadata=metadata)
        await dataset.ReleaseDatasetHold(dataset_pb.ReleaseDatasetHoldRequest(holder=holder), metadata=metadata)


def _files(files: registry_pb.ModelFiles) -> FilesInfo:
    return FilesInfo(files.bucket, files.prefix, files.manifest_json)
