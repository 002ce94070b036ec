"""What training asks of the other services, in its own words. One adapter over gRPC; tests have a fake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from modelry.access.v1 import internal_pb2 as access_pb
from modelry.billing.v1 import internal_pb2 as billing_pb
from modelry.common.v1 import common_pb2
from modelry.dataset.v1 import internal_pb2 as dataset_pb
from modelry.registry.v1 import internal_pb2 as registry_pb
from modelry.registry.v1 import registry_pb2
from services.chassis.rpc import Peers

if TYPE_CHECKING:
    from services.chassis.objects import StoreAccess

PRICE_ITEM = "training-minute"


@dataclass(frozen=True)
class ModelInfo:
    """A model version as training needs it."""

    version_id: str
    state: str
    adapter: bool = False
    parameter_count: int = 0
    context_length: int = 0
    model_name: str = ""
    number: int = 0
    failure: str = ""
    bucket: str = ""
    prefix: str = ""
    manifest: str = ""
    digest: str = ""
    chat_fingerprint: str = ""


@dataclass(frozen=True)
class DatasetInfo:
    """A published data set version as training needs it."""

    version_id: str
    label: str
    bucket: str
    prefix: str
    manifest: str
    file: str
    row_count: int
    token_count: int
    evaluation_pairs: bool = False


@dataclass(frozen=True)
class StoreInfo:
    """A resolved credential: the store, and the bucket to use."""

    access: StoreAccess
    bucket: str


@dataclass(frozen=True)
class Publication:
    """What the registry is told of a checkpoint to publish."""

    model_name: str
    checkpoint_id: str
    job_id: str
    step: int
    final: bool
    base_model_version_id: str
    dataset_version_ids: Sequence[str]
    credential: str
    bucket: str
    prefix: str
    manifest: str
    lora_rank: int
    chat_fingerprint: str
    metrics: dict[str, float]
    suffix: str
    request_id: str
    labels: dict[str, str] = field(default_factory=dict)


class Neighbours(Protocol):
    """The questions that training asks. Every method names the project that it asks for."""

    async def model(self, project: str, reference: str, holder: str = "") -> ModelInfo:
        """The version that a reference means; with a holder it is held and prepared. Raises NotFound."""

    async def dataset(self, project: str, reference: str, holder: str = "") -> DatasetInfo:
        """The published version that a reference means; with a holder it is held. Raises NotFound, WrongState."""

    async def store(self, project: str, credential: str, bucket: str) -> StoreInfo:
        """The store that a credential opens. Raises NotFound, Invalid."""

    async def quote(
        self, project: str, minutes: tuple[float, float], spec_digest: str, description: str, notes: Sequence[str]
    ) -> common_pb2.Quote:
        """A quote for an estimate."""

    async def reserve(self, project: str, job_id: str, minutes: float, quote_id: str, spec_digest: str) -> Decimal:
        """Sets money aside; returns the price of a minute. Raises WrongState (QUOTE_STALE), OverLimit."""

    async def confirm(self, project: str, job_id: str) -> None:
        """Keeps the job's reservation and holds until they are let go."""

    async def settle(self, project: str, job_id: str, minutes: float) -> None:
        """Books what was used and frees the rest."""

    async def let_go(self, project: str, job_id: str) -> None:
        """Releases the job's holds."""

    async def release(self, project: str, job_id: str) -> None:
        """Frees the job's reservation without a booking, and its holds."""

    async def publish(self, project: str, publication: Publication) -> registry_pb2.ModelVersion:
        """Makes a model version from a checkpoint. Raises AlreadyExists for a preset's name."""


class PeerNeighbours:
    """The neighbours over gRPC."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def model(self, project: str, reference: str, holder: str = "") -> ModelInfo:
        """See `Neighbours.model`."""
        answer = await self._peers.registry_internal.ResolveModel(
            registry_pb.ResolveModelRequest(reference=reference, holder=holder), metadata=self._peers.metadata(project)
        )
        version, files = answer.version, answer.files
        return ModelInfo(
            version_id=version.id,
            state=registry_pb2.ModelVersion.State.Name(version.state),
            adapter=version.kind == registry_pb2.ModelVersion.ADAPTER,
            parameter_count=version.parameter_count,
            context_length=version.context_length,
            model_name=version.model_name,
            number=version.number,
            failure=version.failure.message,
            bucket=files.bucket,
            prefix=files.prefix,
            manifest=files.manifest_json,
            digest=files.digest,
            chat_fingerprint=version.chat_fingerprint,
        )

    async def dataset(self, project: str, reference: str, holder: str = "") -> DatasetInfo:
        """See `Neighbours.dataset`."""
        answer = await self._peers.dataset_internal.ResolveDatasetVersion(
            dataset_pb.ResolveDatasetVersionRequest(reference=reference, holder=holder),
            metadata=self._peers.metadata(project),
        )
        return DatasetInfo(
            version_id=answer.version_id,
            label=f"{answer.dataset_name}@{answer.number}",
            bucket=answer.bucket,
            prefix=answer.prefix,
            manifest=answer.manifest_json,
            file=answer.file,
            row_count=answer.row_count,
            token_count=answer.estimated_token_count,
            evaluation_pairs=answer.evaluation_pairs,
        )

    async def store(self, project: str, credential: str, bucket: str) -> StoreInfo:
        """See `Neighbours.store`."""
        from services.chassis.objects import StoreAccess  # it loads the S3 library: not before the service is ready

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

    async def reserve(self, project: str, job_id: str, minutes: float, quote_id: str, spec_digest: str) -> Decimal:
        """See `Neighbours.reserve`."""
        answer = await self._peers.billing_internal.Reserve(
            billing_pb.ReserveRequest(
                reservation_id=job_id, item=PRICE_ITEM, quantity=minutes, quote_id=quote_id, spec_digest=spec_digest
            ),
            metadata=self._peers.metadata(project),
        )
        return amount_of(answer.unit_price)

    async def confirm(self, project: str, job_id: str) -> None:
        """See `Neighbours.confirm`."""
        metadata = self._peers.metadata(project)
        await self._peers.registry_internal.ConfirmModelHold(
            registry_pb.ConfirmModelHoldRequest(holder=job_id), metadata=metadata
        )
        await self._peers.dataset_internal.ConfirmDatasetHold(
            dataset_pb.ConfirmDatasetHoldRequest(holder=job_id), metadata=metadata
        )
        await self._peers.billing_internal.Confirm(billing_pb.ConfirmRequest(reservation_id=job_id), metadata=metadata)

    async def settle(self, project: str, job_id: str, minutes: float) -> None:
        """See `Neighbours.settle`."""
        await self._peers.billing_internal.Settle(
            billing_pb.SettleRequest(reservation_id=job_id, quantity=minutes), metadata=self._peers.metadata(project)
        )

    async def let_go(self, project: str, job_id: str) -> None:
        """See `Neighbours.let_go`."""
        metadata = self._peers.metadata(project)
        await self._peers.registry_internal.ReleaseModelHold(
            registry_pb.ReleaseModelHoldRequest(holder=job_id), metadata=metadata
        )
        await self._peers.dataset_internal.ReleaseDatasetHold(
            dataset_pb.ReleaseDatasetHoldRequest(holder=job_id), metadata=metadata
        )

    async def release(self, project: str, job_id: str) -> None:
        """See `Neighbours.release`."""
        await self._peers.billing_internal.Release(
            billing_pb.ReleaseRequest(reservation_id=job_id), metadata=self._peers.metadata(project)
        )
        await self.let_go(project, job_id)

    async def publish(self, project: str, publication: Publication) -> registry_pb2.ModelVersion:
        """See `Neighbours.publish`."""
        return await self._peers.registry_internal.RegisterCheckpoint(
            registry_pb.RegisterCheckpointRequest(
                model_name=publication.model_name,
                checkpoint_id=publication.checkpoint_id,
                job_id=publication.job_id,
                checkpoint_step=publication.step,
                final=publication.final,
                base_model_version_id=publication.base_model_version_id,
                dataset_version_ids=list(publication.dataset_version_ids),
                credential=publication.credential,
                bucket=publication.bucket,
                prefix=publication.prefix,
                manifest_json=publication.manifest,
                lora_rank=publication.lora_rank,
                chat_fingerprint=publication.chat_fingerprint,
                metrics=publication.metrics,
                suffix=publication.suffix,
                request_id=publication.request_id,
                labels=publication.labels,
            ),
            metadata=self._peers.metadata(project),
        )


def amount_of(money: common_pb2.Money) -> Decimal:
    """The decimal amount of a Money."""
    return Decimal(money.units) + Decimal(money.nanos).scaleb(-9)


def money_of(amount: Decimal) -> common_pb2.Money:
    """A decimal amount as Money, to nine places."""
    billionths = int(amount.scaleb(9).to_integral_value())
    sign = -1 if billionths < 0 else 1
    units, nanos = divmod(abs(billionths), 10**9)
    return common_pb2.Money(units=sign * units, nanos=sign * nanos)
