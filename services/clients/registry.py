"""What services ask of the registry: resolve a model, hold it, publish a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modelry.registry.v1 import internal_pb2, internal_pb2_grpc, registry_pb2, registry_pb2_grpc
from services.chassis.objects import StoredFiles
from services.chassis.rpc import Connections

_ADAPTERS = 200
_STATES = ("FAILED", "PREPARING", "AVAILABLE")
"""States of a version that cannot be used now, the gravest first."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model version.

    Attributes:
        state: AVAILABLE, PREPARING, READY or FAILED; `failure` says why it failed.
        files, digest: where its files are on the installation's store; None and empty until it is READY.
        shape: layers, heads, sizes and bytes per value, for the memory estimate.
        base: the version that an adapter adapts; None for a full model.
    """

    version_id: str
    state: str
    failure: str = ""
    model_name: str = ""
    number: int = 0
    parameter_count: int = 0
    context_length: int = 0
    size_bytes: int = 0
    lora_rank: int = 0
    fine_tuned_name: str = ""
    chat_fingerprint: str = ""
    files: StoredFiles | None = None
    digest: str = ""
    shape: Mapping[str, int] = field(default_factory=dict)
    base: ModelInfo | None = None

    @property
    def adapter(self) -> bool:
        """Whether it is an adapter."""
        return self.base is not None

    @property
    def full(self) -> ModelInfo:
        """The version with the full weights: an adapter's base, else itself."""
        return self.base or self

    @property
    def usable_state(self) -> str:
        """READY when it and its base are; else the graver state of the two."""
        return next((state for state in _STATES if state in (self.state, self.full.state)), "READY")

    @property
    def usable_failure(self) -> str:
        """Why it, or its base, failed."""
        return self.failure or self.full.failure


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A checkpoint that shall become a model version.

    Attributes:
        files: the servable adapter.
        final: it is the best or last checkpoint of an ended job.
        labels: names of lineage nodes, by id.
    """

    model_name: str
    checkpoint_id: str
    job_id: str
    step: int
    final: bool
    base_model_version_id: str
    dataset_version_ids: Sequence[str]
    files: StoredFiles
    lora_rank: int
    chat_fingerprint: str
    metrics: Mapping[str, float]
    suffix: str
    request_id: str
    labels: Mapping[str, str] = field(default_factory=dict)


class RegistryClient:
    """Asks the registry in the name of a project."""

    def __init__(self, connections: Connections) -> None:
        channel = connections.channel("registry", internal_pb2.DESCRIPTOR, registry_pb2.DESCRIPTOR)
        self._internal = internal_pb2_grpc.RegistryInternalServiceStub(channel)
        self._registry = registry_pb2_grpc.RegistryServiceStub(channel)
        self._metadata = connections.metadata

    async def resolve(self, project: str, reference: str, holder: str = "") -> ModelInfo:
        """The version that a reference means; with a holder it and its base are held, and a preset is prepared.

        Raises: Invalid, NotFound.
        """
        request = internal_pb2.ResolveModelRequest(reference=reference, holder=holder)
        answer = await self._internal.ResolveModel(request, metadata=self._metadata(project))
        base = None
        if answer.version.kind == registry_pb2.ModelVersion.ADAPTER:
            base = _info(answer.base, answer.base_files, answer.shape, None)
        return _info(answer.version, answer.files, answer.shape, base)

    async def confirm_hold(self, project: str, holder: str) -> None:
        """Make the holds of a holder lasting. Idempotent."""
        request = internal_pb2.ConfirmModelHoldRequest(holder=holder)
        await self._internal.ConfirmModelHold(request, metadata=self._metadata(project))

    async def release_hold(self, project: str, holder: str) -> None:
        """Let go of everything that a holder holds. Idempotent."""
        request = internal_pb2.ReleaseModelHoldRequest(holder=holder)
        await self._internal.ReleaseModelHold(request, metadata=self._metadata(project))

    async def publish(self, project: str, publication: Publication) -> registry_pb2.ModelVersion:
        """Make a version of a checkpoint; a repeat returns the first one.

        Returns: the version as the API shows it, for callers who hand it on.
        Raises: Invalid, NotFound, AlreadyExists: the name is another kind of model's.
        """
        files = publication.files
        request = internal_pb2.RegisterCheckpointRequest(
            model_name=publication.model_name,
            checkpoint_id=publication.checkpoint_id,
            job_id=publication.job_id,
            checkpoint_step=publication.step,
            final=publication.final,
            base_model_version_id=publication.base_model_version_id,
            dataset_version_ids=publication.dataset_version_ids,
            credential=files.credential,
            bucket=files.bucket,
            prefix=files.prefix,
            manifest_json=files.manifest_json,
            lora_rank=publication.lora_rank,
            chat_fingerprint=publication.chat_fingerprint,
            metrics=publication.metrics,
            suffix=publication.suffix,
            request_id=publication.request_id,
            labels=publication.labels,
        )
        return await self._internal.RegisterCheckpoint(request, metadata=self._metadata(project))

    async def adapters_of(self, project: str, base_version_id: str) -> list[str]:
        """Ids of the project's READY adapters of a base, newest first."""
        request = registry_pb2.ListModelVersionsRequest(
            model="-", page_size=_ADAPTERS, filter="kind = ADAPTER AND state = READY"
        )
        answer = await self._registry.ListModelVersions(request, metadata=self._metadata(project))
        return [one.id for one in answer.model_versions if one.base_model_version_id == base_version_id]


def _info(
    version: registry_pb2.ModelVersion,
    files: internal_pb2.ModelFiles,
    shape: Mapping[str, int],
    base: ModelInfo | None,
) -> ModelInfo:
    stored = StoredFiles(files.bucket, files.prefix, files.manifest_json) if files.manifest_json else None
    return ModelInfo(
        version_id=version.id,
        state=registry_pb2.ModelVersion.State.Name(version.state),
        failure=version.failure.message,
        model_name=version.model_name,
        number=version.number,
        parameter_count=version.parameter_count,
        context_length=version.context_length,
        size_bytes=version.size_bytes,
        lora_rank=version.lora_rank,
        fine_tuned_name=version.fine_tuned_name,
        chat_fingerprint=version.chat_fingerprint,
        files=stored,
        digest=files.digest,
        shape=dict(shape),
        base=base,
    )
