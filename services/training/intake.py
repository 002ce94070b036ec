"""What is known of a job before it runs: what its references mean, how long it will take, what it holds."""

from dataclasses import dataclass, field, replace

from services.chassis.errors import Invalid, WrongState, with_field
from services.chassis.jobs import Intake
from services.clients.credentials import BUILTIN, open_location
from services.clients.registry import ModelInfo
from services.training import checks
from services.training.clients import Clients
from services.training.domain import DatasetUse, Job
from services.training.estimate import JobEstimate, MeasuredSpeed, estimate

OUTPUT_PREFIX = "jobs"


@dataclass(frozen=True)
class Machine:
    """What the machine that trains gives out."""

    cpus: int = 0
    gpus: int = 0
    speed: MeasuredSpeed = field(default_factory=MeasuredSpeed)


class TrainingIntake(Intake[Job]):
    """Looks drafts up at the other services."""

    id_prefix = "ftjob-"

    def __init__(self, clients: Clients, machine: Machine) -> None:
        self._clients = clients
        self._machine = machine

    async def resolve(self, draft: Job) -> Job:
        """Return the draft with every reference looked up; nothing is held. Name the field of what is not right.

        Raises: Invalid, NotFound, WrongState, Unavailable
        """
        checks.check(draft, gpus=self._machine.gpus, cpus=self._machine.cpus)
        reference = draft.model_version_id or draft.model
        model = await with_field("job.model", self._clients.registry.resolve(draft.project, reference))
        _refuse_model(draft, model)
        uses = [await self._use(draft.project, path, use) for path, use in draft.uses]
        count = len(draft.datasets)
        output = draft.output
        credential, prefix = output.credential or BUILTIN, (output.prefix or OUTPUT_PREFIX).rstrip("/")
        store = await open_location(self._clients.credentials, draft.project, credential, output.bucket, "job.output")
        return replace(
            draft,
            model_version_id=model.version_id,
            parameter_count=model.parameter_count,
            hyperparameters=draft.hyperparameters.for_model(model.parameter_count, model.context_length),
            datasets=tuple(uses[:count]),
            validation_dataset=uses[count] if draft.validation_dataset else None,
            output=replace(output, credential=credential, bucket=store.bucket, prefix=prefix),
        )

    async def _use(self, project: str, path: str, use: DatasetUse) -> DatasetUse:
        path = f"{path}.ref"
        info = await with_field(path, self._clients.datasets.resolve(project, use.version_id or use.ref))
        if info.evaluation_pairs:
            message = f"{path}: {use.ref} is an evaluation set: it has references to score with, not answers to learn."
            raise Invalid(message, field=path, reason="WRONG_DATASET_KIND")
        if info.row_count == 0:
            raise Invalid(f"{path}: {use.ref} has no rows.", field=path, reason="EMPTY_DATASET")
        return replace(
            use,
            version_id=info.version_id,
            label=info.label,
            files=info.files,
            file=info.file,
            row_count=info.row_count,
            token_count=info.token_count,
        )

    def estimate(self, job: Job) -> JobEstimate:
        """Return how long a resolved job will take on this machine."""
        return estimate(job, self._machine.speed)

    async def hold(self, job: Job) -> None:
        """Hold the versions of model and data under the job's id. May be repeated."""
        await with_field("job.model", self._clients.registry.resolve(job.project, job.model_version_id, job.id))
        for path, use in job.uses:
            await with_field(f"{path}.ref", self._clients.datasets.resolve(job.project, use.version_id, job.id))


def _refuse_model(draft: Job, model: ModelInfo) -> None:
    if model.adapter:
        message = f"job.model: {draft.model} is an adapter; tune its base, with the data of both."
        raise Invalid(message, field="job.model", reason="MODEL_IS_ADAPTER")
    if model.state == "FAILED":
        message = f"job.model: {draft.model} could not be prepared: {model.failure}"
        raise WrongState(message, reason="MODEL_NOT_READY", metadata={"field": "job.model", "state": model.state})
