"""What is known of an evaluation before it runs: what its references mean, how long it will take, what it holds."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from services.chassis.data import Database
from services.chassis.errors import Denied, Invalid, NotFound, Unavailable, WrongState, with_field
from services.chassis.jobs import Estimate, Intake
from services.chassis.locations import ObjectLocation
from services.chassis.objects import ForeignStores, ObjectInfo, ObjectStore, StoreAccess, folder_prefix
from services.clients.credentials import BUILTIN, open_location
from services.evaluation.benchmarks import layouts, presets
from services.evaluation.checks import check, labelled, target_path
from services.evaluation.clients import Clients
from services.evaluation.domain import Evaluation, Target, TargetKind, Task
from services.evaluation.estimate import MeasuredSpeed, estimate
from services.evaluation.scoring import stopwords
from services.evaluation.store import EvaluationUnit

OUTPUT_PREFIX = "evaluations"
MAX_FILES = 20_000
"""Most objects that are looked at below the prefix of a benchmark."""
QUESTION_BYTES = 400
"""Mean size of a question in a CSV file, to estimate how many there are before they are read."""


@dataclass(frozen=True)
class Benchmarks:
    """Where the installation's own copies of preset benchmarks are, a folder each."""

    access: StoreAccess
    bucket: str
    prefix: str


class EvaluationIntake(Intake[Evaluation]):
    """Looks drafts up at the other services and in the store."""

    id_prefix = "eval-"

    def __init__(self, clients: Clients, database: Database, benchmarks: Benchmarks, speed: MeasuredSpeed) -> None:
        self._clients = clients
        self._database = database
        self._benchmarks = benchmarks
        self._speed = speed
        self._foreign = ForeignStores()

    async def resolve(self, draft: Evaluation) -> Evaluation:
        """Return the draft with every reference looked up; nothing is held.

        Raises: Invalid, NotFound, WrongState, Denied, Unavailable, naming the field.
        """
        check(draft)
        named = labelled(draft)
        targets = [await self._target(named.project, index, target) for index, target in enumerate(named.targets)]
        tasks = [await self._task(named.project, index, task) for index, task in enumerate(named.tasks)]
        output = named.output
        where = (output.credential, output.bucket, "evaluation.output")
        store = await open_location(self._clients.credentials, named.project, *where)
        prefix = (output.prefix or OUTPUT_PREFIX).rstrip("/")
        return replace(
            named,
            baseline=targets[0],
            candidates=tuple(targets[1:]),
            tasks=tuple(tasks),
            output=ObjectLocation(output.credential or BUILTIN, store.bucket, prefix),
        )

    def estimate(self, job: Evaluation) -> Estimate:
        """Return how long a resolved evaluation will take on this machine."""
        return estimate(job, self._speed)

    async def hold(self, job: Evaluation) -> None:
        """Hold the versions of models and data sets under the evaluation's id. May be repeated."""
        for index, target in enumerate(job.targets):
            path = f"{target_path(index)}.{target.kind.lower()}"
            await with_field(path, self._clients.registry.resolve(job.project, target.model_version_id, job.id))
        for index, task in enumerate(job.tasks):
            if not task.preset:
                path = f"evaluation.tasks[{index}].custom.dataset"
                await with_field(path, self._clients.datasets.resolve(job.project, task.dataset_version_id, job.id))

    async def _target(self, project: str, index: int, target: Target) -> Target:
        path = f"{target_path(index)}.{target.kind.lower()}"
        reference = target.model_version_id or target.ref
        if target.kind is TargetKind.CHECKPOINT:
            checkpoint = await with_field(path, self._clients.training.checkpoint(project, target.ref))
            reference = checkpoint.base_model_version_id
        elif target.kind is TargetKind.DEPLOYMENT:
            deployment = await with_field(path, self._clients.serving.deployment(project, target.ref))
            reference = deployment.model_version_id
        info = await with_field(path, self._clients.registry.resolve(project, reference))
        if info.usable_state == "FAILED":
            message = f"{path}: {target.ref} could not be prepared: {info.usable_failure}"
            raise WrongState(message, reason="MODEL_NOT_READY", metadata={"field": path, "state": "FAILED"})
        return replace(target, model_version_id=info.version_id, parameter_count=info.full.parameter_count)

    async def _task(self, project: str, index: int, task: Task) -> Task:
        path = f"evaluation.tasks[{index}]"
        if task.preset:
            return await self._preset(project, f"{path}.preset", task)
        field = f"{path}.custom.dataset"
        info = await with_field(field, self._clients.datasets.resolve(project, task.dataset_version_id or task.dataset))
        if not info.evaluation_pairs:
            message = f"{field}: {task.dataset} has no references to score with; import it as evaluation pairs."
            raise Invalid(message, field=field, reason="WRONG_DATASET_KIND")
        if info.row_count == 0:
            raise Invalid(f"{field}: {task.dataset} has no rows.", field=field, reason="EMPTY_DATASET")
        lists = await self._stopwords(project, f"{path}.custom.stopword_lists", task.stopword_lists)
        count = min(info.row_count, task.max_samples) if task.max_samples else info.row_count
        return replace(task, dataset_version_id=info.version_id, stopword_list_ids=lists, question_count=count)

    async def _stopwords(self, project: str, path: str, lists: tuple[str, ...]) -> tuple[str, ...]:
        ids = []
        async with EvaluationUnit(self._database, write=False) as uow:
            for index, ref in enumerate(lists):
                own = ref not in stopwords.PRESETS
                ids.append((await with_field(f"{path}[{index}]", uow.stopwords.get(project, ref))).id if own else ref)
        return tuple(dict.fromkeys(ids))

    async def _preset(self, project: str, path: str, task: Task) -> Task:
        """Check that the benchmark's files are there, and estimate how many questions they hold."""
        preset = presets.preset(task.benchmark, split=task.split, shots=task.shots)
        own = task.location is None
        shipped, field = self._benchmarks, f"{path}.location"
        access, bucket = shipped.access, shipped.bucket
        place = task.location or ObjectLocation(bucket=bucket, prefix=f"{shipped.prefix}/{task.benchmark}")
        if not own:
            store = await open_location(self._clients.credentials, project, place.credential, place.bucket, field)
            access, bucket = store.access, store.bucket
        try:
            entries = await self._foreign.run(project, access, partial(_files, access, bucket, place.prefix))
        except (NotFound, Denied, Invalid) as error:
            raise Invalid(f"{field}: {error.message}", field=field, reason=error.reason) from error
        except Unavailable as error:
            raise Unavailable(f"{field}: {error.message}", reason=error.reason, metadata={"field": field}) from error
        size, subjects = 0, 0
        for entry in entries:
            if layouts.holds_questions(entry.key.removeprefix(folder_prefix(place.prefix)), preset.split):
                size, subjects = size + entry.size, subjects + 1
        if not subjects:
            hint = "give `location` of a copy in its original layout" if own else "check `prefix`"
            where = f"{preset.split}/ below {bucket}/{place.prefix}"
            message = f"{field}: there are no CSV files of {preset.title} in {where}; {hint}."
            raise Invalid(message, field=field, reason="BENCHMARK_NOT_FOUND")
        count = max(subjects, size // QUESTION_BYTES)
        if task.subjects:
            count = max(1, count * min(len(task.subjects), subjects) // subjects)
        if task.max_samples:
            count = min(count, task.max_samples * (len(task.subjects) or subjects))
        return replace(task, location=None if own else replace(place, bucket=bucket), question_count=count)


def _files(access: StoreAccess, bucket: str, prefix: str) -> list[ObjectInfo]:
    """Return what lies below a prefix. Raises: NotFound, Denied, Unavailable; Invalid: too much."""
    found = list(islice(ObjectStore(access).list(bucket, folder_prefix(prefix)), MAX_FILES + 1))
    if len(found) > MAX_FILES:
        raise Invalid(f"There are more than {MAX_FILES} objects below {prefix}.", reason="TOO_MANY_OBJECTS")
    return found
