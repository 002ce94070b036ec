"""Evaluation as the job engine sees it: what a worker is told, and what its reports mean."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from services.chassis.data import Database, Repository, UnitOfWork
from services.chassis.errors import Invalid, Unavailable
from services.chassis.garbage import discard
from services.chassis.jobs import Attempt, Plan, Readiness, Report, Stage
from services.chassis.launch import Capacity
from services.chassis.locations import ObjectLocation
from services.chassis.objects import Manifest, StoreAccess, StoredFiles
from services.clients.credentials import CredentialClient
from services.evaluation.clients import Clients
from services.evaluation.domain import Evaluation, ReportPart, Target, TargetKind, Task, sample_id
from services.evaluation.reporting.build import BASELINE
from services.evaluation.scoring import stopwords
from services.evaluation.settings import EvaluationSettings
from services.evaluation.store import (
    EVALUATIONS,
    GARBAGE,
    EvaluationUnit,
    add_samples,
    drop_results,
    evaluations_of,
    parts_of,
)
from services.evaluation.work_spec import SYSTEM, CustomTask, EvaluationWork, Files, Output, PresetTask, Stopwords
from services.evaluation.work_spec import Target as TargetWork

CANDIDATE = "candidate"
_PARTS = ("scores", "comparisons", "settings")


@dataclass
class _Stores:
    """The stores of a plan: one name for each credential and bucket."""

    credentials: CredentialClient
    project: str
    access: dict[str, StoreAccess] = field(default_factory=dict)

    async def name(self, place: ObjectLocation) -> tuple[str, str]:
        """Return (name of the store in the spec, bucket)."""
        store = await self.credentials.resolve(self.project, place.credential, place.bucket)
        name = f"{place.credential or 'builtin'}/{store.bucket}"
        self.access[name] = store.access
        return name, store.bucket


class EvaluationStage(Stage[Evaluation]):
    """The stage."""

    name = "evaluation"
    resource = "evaluation"
    table = EVALUATIONS

    def __init__(self, database: Database, clients: Clients, settings: EvaluationSettings, capacity: Capacity) -> None:
        """Args: capacity: what the launcher gives out."""
        self._database = database
        self._clients = clients
        self._settings = settings
        self._cpus = settings.worker_cpus or len(capacity.cores)
        self._memory_mb = min(settings.worker_memory_mb, capacity.memory_mb)
        self._gpus = min(capacity.gpus, 1)

    def jobs(self, uow: UnitOfWork) -> Repository[Evaluation]:
        """Return the evaluations."""
        return evaluations_of(uow)

    def links(self, job: Evaluation) -> dict[str, str]:
        """Return every version that it compares and every data set version that it asks."""
        links = {"baseline": job.baseline.model_version_id}
        links |= {f"candidate_{n}": target.model_version_id for n, target in enumerate(job.candidates, 1)}
        own = [task.dataset_version_id for task in job.tasks if task.dataset_version_id]
        return links | {f"dataset_version_{n}": version for n, version in enumerate(own, 1)}

    async def prepare(self, job: Evaluation) -> Readiness:
        """Confirm what was set aside, then wait until every model is on the installation's store.

        Holds and money are confirmed here and not by the create: whatever happens to that call after its commit, an
        evaluation that exists comes by here before they fall.
        """
        await self._clients.reservations.confirm(job)
        for target in job.targets:
            info = await self._clients.registry.resolve(job.project, target.model_version_id, job.id)
            if info.usable_state == "FAILED":
                why = info.usable_failure or "its version says why."
                raise Invalid(f"The model {target.label} could not be prepared: {why}", reason="MODEL_NOT_READY")
            if info.usable_state != "READY":
                return Readiness(ready=False, cause=f"The model {target.label} is being prepared.")
        return Readiness(ready=True)

    async def plan(self, job: Evaluation, attempt: Attempt) -> Plan:
        """Return what the worker is told; resolved anew for each attempt, so that changed secrets count."""
        stores = _Stores(self._clients.credentials, job.project)
        targets = [await self._target(job, index, target, stores) for index, target in enumerate(job.targets)]
        tasks = [await self._task(job, task, stores) for task in job.tasks]
        output = await self._clients.credentials.resolve(job.project, job.output.credential, job.output.bucket)
        work = EvaluationWork(
            targets=tuple(targets),
            tasks=tuple(tasks),
            generation=job.generation,
            output=Output(output.bucket, job.attempt_prefix(attempt.number)),
            kv_space_gb=self._settings.kv_space_gb,
        )
        return Plan(
            argv=(sys.executable, "-m", "services.evaluation.worker"),
            work=work.to_json(),
            output=output.access,
            cpus=1,
            most_cpus=self._cpus,
            memory_mb=self._memory_mb,
            gpus=self._gpus,
            stores=stores.access,
        )

    async def _target(self, job: Evaluation, index: int, target: Target, stores: _Stores) -> TargetWork:
        info = await self._clients.registry.resolve(job.project, target.model_version_id, job.id)
        base, adapter = info.full.files, info.files if info.adapter else None
        if base is None:
            raise Unavailable(f"The model {target.label} is not prepared.", reason="MODEL_NOT_READY")
        if target.kind is TargetKind.CHECKPOINT:
            adapter = (await self._clients.training.checkpoint(job.project, target.ref)).adapter
        return TargetWork(
            label=target.label,
            role=BASELINE if index == 0 else CANDIDATE,
            version_id=info.version_id,
            base=await _work_files(base, stores),
            adapter=await _work_files(adapter, stores) if adapter else None,
        )

    async def _task(self, job: Evaluation, task: Task, stores: _Stores) -> PresetTask | CustomTask:
        if not task.preset:
            return await self._custom(job, task)
        store, bucket, prefix = SYSTEM, "", f"{self._settings.benchmarks_prefix}/{task.benchmark}"
        if task.location is not None:
            store, bucket = await stores.name(task.location)
            prefix = task.location.prefix
        return PresetTask(
            name=task.name,
            preset=task.benchmark,
            shots=task.shots,
            split=task.split,
            subjects=tuple(task.subjects),
            max_samples=task.max_samples,
            store=store,
            bucket=bucket or self._settings.objects_bucket,
            prefix=prefix,
        )

    async def _custom(self, job: Evaluation, task: Task) -> CustomTask:
        info = await self._clients.datasets.resolve(job.project, task.dataset_version_id, job.id)
        presets = [ref for ref in task.stopword_list_ids if ref in stopwords.PRESETS]
        async with EvaluationUnit(self._database, write=False) as uow:
            own = [await uow.stopwords.get(job.project, ref) for ref in task.stopword_list_ids if ref not in presets]
        lists = [*(Stopwords(ref, None) for ref in presets), *(Stopwords(one.name, one.words) for one in own)]
        return CustomTask(
            store=SYSTEM,
            bucket=info.files.bucket,
            prefix=info.files.prefix,
            manifest=_manifest(info.files.manifest_json),
            name=task.name,
            file=info.file,
            stopwords=tuple(lists),
            max_samples=task.max_samples,
            system_prompt=task.system_prompt,
        )

    async def granted(self, uow: UnitOfWork, job: Evaluation, attempt: Attempt) -> None:
        """Drop the results: a new attempt sends all samples again; what it answered before is in its cache."""
        await drop_results(uow, job.id)

    async def reported(self, uow: UnitOfWork, job: Evaluation, report: Report) -> Evaluation:
        """Store samples and the pieces of the report as they come."""
        body = report.body
        if report.kind == "finished":
            result = body.get("result")
            if not isinstance(result, Mapping):
                raise Invalid("The worker finished without a result.", field="result")
            return replace(job, sample_count=int(result.get("sample_count") or 0))
        if report.kind != "result":
            return job
        part = body.get("part")
        if part == "samples":
            await add_samples(uow, [_sample_row(job, row) for row in body["rows"]])
            step = int(body.get("done") or 0)
            # New samples are progress: an attempt that brought some counts as one with a checkpoint.
            return job.advance(f"samples-{report.attempt}-{report.number}", step, job.update_time)
        if part in _PARTS or part == "main_metrics":
            rows = body["rows"] if part in _PARTS else [body["values"]]
            identity = f"{job.id}.{report.attempt:04}.{report.number:08}"  # sorts in the order of sending
            sent = ReportPart(id=identity, project=job.project, evaluation_id=job.id, kind=str(part), rows=tuple(rows))
            await parts_of(uow).add(sent)
            return job
        raise Invalid(f"A result with the part {part!r} is unknown.", field="part")

    def reason_to_stop(self, job: Evaluation, run_seconds: float) -> str:
        """Stop an evaluation before it costs more than it may."""
        if job.max_cost is None or job.cost(run_seconds) < job.max_cost:
            return ""
        return f"Stopped before it costs more than {job.max_cost.normalize():f}."

    async def ended(self, job: Evaluation) -> None:
        """Settle the money and let go of models and data."""
        async with EvaluationUnit(self._database, write=False) as uow:
            seconds = await uow.attempts.run_seconds(job.id)
        await self._clients.reservations.settle(job, seconds)

    async def removed(self, uow: UnitOfWork, job: Evaluation) -> None:
        """Remove the report and the samples: their rows, and their files once this commits."""
        await drop_results(uow, job.id)
        await discard(uow, GARBAGE, job.output.bucket, job.report_prefix, job.project, job.output.credential)


def _manifest(text: str) -> Manifest:
    return Manifest.from_json(json.loads(text))


async def _work_files(files: StoredFiles, stores: _Stores) -> Files:
    store, bucket = SYSTEM, files.bucket
    if files.credential:
        store, bucket = await stores.name(ObjectLocation(credential=files.credential, bucket=files.bucket))
    return Files(store, bucket, files.prefix, _manifest(files.manifest_json))


def _sample_row(job: Evaluation, row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {
            "id": sample_id(job, row),
            "project": job.project,
            "evaluation_id": job.id,
            "number": int(row["index"]),
            "subject": row["group"],
            "references": tuple(row["references"]),
            "scores": dict(row["scores"]),
            "version": 1,
            **{name: row[name] for name in ("task", "target", "prompt", "output", "score")},
        }
    except (KeyError, ValueError, TypeError) as error:
        raise Invalid(f"A sample cannot be read: {error}.", field="rows") from error
