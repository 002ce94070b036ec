"""The work of one attempt, read downwards: fetch, score choices, generate, score texts, report."""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from services.chassis.objects import NodeCache, ObjectStore, StoreAccess, upload_folder
from services.chassis.reporting import Reporter
from services.chassis.worker import chat
from services.evaluation.benchmarks import prompts
from services.evaluation.reporting.build import Measured, TargetInfo, build_report
from services.evaluation.reporting.files import write_files
from services.evaluation.reporting.samples import choice_sample, text_sample
from services.evaluation.work_spec import EvaluationWork, Files, PresetTask
from services.evaluation.worker import choices, models, report_sender
from services.evaluation.worker.answers import AnswerCache, prompt_digest
from services.evaluation.worker.engines import Engines, Local
from services.evaluation.worker.generation import engine_version
from services.evaluation.worker.tasks import LoadedCustom, LoadedPreset, load_custom, load_preset


class StopRequested(Exception):
    """Somebody asked the worker to end; it does so between two batches."""


class Run:
    """One attempt. Its parts share what was fetched and how far the work is."""

    def __init__(self, reporter: Reporter) -> None:
        spec = reporter.spec
        self.reporter = reporter
        self.work = EvaluationWork.from_json(spec["work"])
        self.folder = reporter.folder
        self.cache = Path(spec["cache_dir"])
        self.cpus = os.environ.get("MODELRY_CPUS") or str(spec.get("cpus") or "")
        self.stores = {name: ObjectStore(StoreAccess.from_json(raw)) for name, raw in spec["stores"].items()}
        self.tasks: dict[str, LoadedPreset | LoadedCustom] = {}
        self.locals: list[Local] = []
        self.results: dict[tuple[str, str], Measured] = {}
        self.done = self.total = 0
        self._began = time.monotonic()

    def execute(self) -> dict[str, Any]:
        """Do all of it; returns what `finished` reports. Raises StopRequested."""
        self._fetch()
        self.total = sum(task.count for task in self.tasks.values()) * len(self.locals)
        self._began = time.monotonic()
        self._score_choices()
        self._answer_texts()
        return self._report()

    def _check(self) -> None:
        if self.reporter.stop_requested.is_set():
            raise StopRequested

    def _stopped(self) -> bool:
        return self.reporter.stop_requested.is_set()

    def _advance(self, count: int, phase: str) -> None:
        self.done += count
        elapsed = time.monotonic() - self._began
        left = elapsed / self.done * (self.total - self.done) if self.done else None
        self.reporter.progress(self.done, self.total, "samples", phase, left)

    def _fetch(self) -> None:
        """Bring models and data to this machine."""
        cache = NodeCache(self.cache / "models")
        for target in self.work.targets:
            self._check()
            self.reporter.progress(0, 0, "samples", f"fetching {target.label}")
            base, adapter = target.base, target.adapter
            folder, over = self._files(cache, base), self._files(cache, adapter) if adapter else None
            digest = adapter.manifest.digest if adapter else ""
            self.locals.append(Local(target, folder, base.manifest.digest, over, digest))
        for task in self.work.tasks:
            self._check()
            self.reporter.progress(0, 0, "samples", f"fetching {task.name}")
            if isinstance(task, PresetTask):
                self.tasks[task.name] = load_preset(task, self.stores[task.store], self.folder / "data" / task.name)
            else:
                data = NodeCache(self.cache / "datasets")
                self.tasks[task.name] = load_custom(task, self.stores[task.store], data)

    def _files(self, cache: NodeCache, files: Files) -> Path:
        return cache.fetch(self.stores[files.store], files.bucket, files.prefix, files.manifest)

    def _by_base(self) -> dict[str, list[Local]]:
        groups: dict[str, list[Local]] = {}
        for local in self.locals:
            groups.setdefault(local.base_digest, []).append(local)
        return groups

    def _score_choices(self) -> None:
        """Score every preset task on every target; a base is loaded once for all of its adapters."""
        tasks = [task for task in self.tasks.values() if isinstance(task, LoadedPreset)]
        if not tasks:
            return
        for group in self._by_base().values():
            tokenizer = chat.load_tokenizer(group[0].base)
            room = models.context_length(group[0].base)
            encoded = {task.info.name: self._encode_preset(task, tokenizer, room) for task in tasks}
            adapters = {local.adapter_digest: local.adapter for local in group if local.adapter}
            base = models.SharedBase(group[0].base, adapters)
            try:
                for local in group:
                    for task in tasks:
                        self._score_preset(local, task, base, tokenizer, encoded[task.info.name])
            finally:
                base.close()

    def _encode_preset(self, task: LoadedPreset, tokenizer: Any, room: int) -> dict[str, list[choices.ChoicePrompt]]:
        result = {}
        for subject, rows in task.benchmark.questions.items():
            self._check()
            title, examples = task.categories.title(subject), task.benchmark.examples.get(subject, ())
            result[subject] = [
                choices.encode_question(tokenizer, task.preset, title, examples, row, room) for row in rows
            ]
        return result

    def _score_preset(
        self,
        local: Local,
        task: LoadedPreset,
        base: models.SharedBase,
        tokenizer: Any,
        encoded: Mapping[str, list[choices.ChoicePrompt]],
    ) -> None:
        labels = choices.label_ids(tokenizer, task.preset)
        facts = {"kind": "choice", "base": local.base_digest, "adapter": local.adapter_digest, "labels": labels}
        cache = AnswerCache(self.cache / "answers", facts | {"compute_type": str(models.COMPUTE_TYPE)})
        phase = f"{task.info.name}: {local.target.label}"
        values: list[tuple[choices.ChoicePrompt, tuple[float, ...]]] = []
        with base.use(local.adapter_digest or None) as model:
            for asked in encoded.values():
                digests = [prompt_digest(prompt.token_ids) for prompt in asked]
                missing = [number for number, digest in enumerate(digests) if cache.get(digest) is None]
                fresh: list[tuple[str, Any]] = []
                wanted = [asked[number] for number in missing]
                for number, scores in choices.score_choices(model, wanted, labels, self._stopped):
                    fresh.append((digests[missing[number]], list(scores)))
                    self._advance(1, phase)
                cache.put(fresh)
                self._check()
                self._advance(len(asked) - len(missing), phase)
                found = (tuple(cache.get(digest) or ()) for digest in digests)
                values += zip(asked, found, strict=True)
        self._keep_choices(local, task, values)

    def _keep_choices(
        self, local: Local, task: LoadedPreset, values: list[tuple[choices.ChoicePrompt, tuple[float, ...]]]
    ) -> None:
        samples = []
        for index, (prompt, scores) in enumerate(values):
            question, labels = prompt.question, task.preset.labels
            chosen = labels[scores.index(max(scores))]
            text = prompts.ask(task.preset, question)
            sample = choice_sample(
                task.info.name,
                local.target.label,
                index,
                (question.subject, text, question.answer),
                (chosen, dict(zip(labels, scores, strict=True))),
            )
            details = {"shots": str(prompt.shots)} if prompt.shots < task.preset.shots else {}
            details |= {"cut": "the beginning of the question was left out"} if prompt.cut else {}
            samples.append(replace(sample, details=details))
        self._keep(local, task, Measured(samples))

    def _answer_texts(self) -> None:
        """Answer every own set on every target; an engine is started only for what the cache does not hold."""
        tasks = [task for task in self.tasks.values() if isinstance(task, LoadedCustom)]
        if not tasks:
            return
        for group in self._by_base().values():
            tokenizer = chat.load_tokenizer(group[0].base)
            context = models.context_length(group[0].base)
            fingerprint = chat.fingerprint(tokenizer)
            encoded = {}
            for task in tasks:
                self._record_generation(task, group, fingerprint)
                encoded[task.info.name] = [chat.encode_prompt(tokenizer, list(row.messages)) for row in task.rows]
            self._generate_group(group, tasks, encoded, context)

    def _record_generation(self, task: LoadedCustom, group: list[Local], fingerprint: str) -> None:
        sampling = self.work.generation
        settings = dict(task.info.settings) | {
            "engine": engine_version(),
            "generation_config": "vllm (the model's own sampling defaults are not applied)",
            **{name: str(value) for name, value in vars(sampling).items()},
            "top_k": "all",
            "min_p": "0.0",
            "presence_penalty": "0.0",
            "frequency_penalty": "0.0",
            "stop": ", ".join(map(repr, sampling.stop)) or "none",
        }
        settings |= {f"chat_fingerprint {local.target.label}": fingerprint for local in group}
        self.tasks[task.info.name] = replace(task, info=replace(task.info, settings=settings))

    def _generate_group(
        self, group: list[Local], tasks: list[LoadedCustom], encoded: Mapping[str, list[list[int]]], context: int
    ) -> None:
        caches = {local.target.label: self._text_cache(local) for local in group}
        longest = max((len(ids) for rows in encoded.values() for ids in rows), default=1)
        context = min(context, longest + self.work.generation.max_tokens + 1)
        engines = Engines(group, context, self.cache / "models", self._starting)
        try:
            for local in group:
                for task in tasks:
                    answers = self._answers(local, task, encoded[task.info.name], caches[local.target.label], engines)
                    self._keep_texts(local, task, answers)
        finally:
            engines.close()

    def _starting(self) -> None:
        self.reporter.progress(self.done, self.total, "samples", "starting the engine")

    def _text_cache(self, local: Local) -> AnswerCache:
        facts = {
            "kind": "text",
            "base": local.base_digest,
            "adapter": local.adapter_digest,
            "engine": engine_version(),
            "sampling": list(asdict(self.work.generation).values()),
        }
        return AnswerCache(self.cache / "answers", facts)

    def _answers(
        self, local: Local, task: LoadedCustom, prompts_ids: list[list[int]], cache: AnswerCache, engines: Engines
    ) -> list[str | None]:
        """Return the answer to each prompt; None for one that the model cannot hold."""
        phase = f"{task.info.name}: {local.target.label}"
        fits = [len(ids) < engines.context for ids in prompts_ids]
        digests = [prompt_digest(ids) for ids in prompts_ids]
        missing = [n for n, digest in enumerate(digests) if fits[n] and cache.get(digest) is None]
        self._advance(len(prompts_ids) - len(missing), phase)
        if missing:
            engine, adapter = engines.of(local)
            asked, left = [prompts_ids[n] for n in missing], iter(missing)
            for batch in engine.generate(asked, self.work.generation, adapter, self._stopped):
                cache.put([(digests[next(left)], text) for text in batch])
                self._advance(len(batch), phase)
            self._check()
        return [cache.get(digest) if fit else None for digest, fit in zip(digests, fits, strict=True)]

    def _keep_texts(self, local: Local, task: LoadedCustom, answers: list[str | None]) -> None:
        made = [
            text_sample(task.info.name, local.target.label, index, row.question, output, task.stopwords)
            for index, (row, output) in enumerate(zip(task.rows, answers, strict=True))
        ]
        self._keep(local, task, Measured([sample for sample, _ in made], [score for _, score in made]))

    def _keep(self, local: Local, task: LoadedPreset | LoadedCustom, measured: Measured) -> None:
        self.results[task.info.name, local.target.label] = measured
        report_sender.send_samples(self.reporter, measured.samples, self.done)

    def _report(self) -> dict[str, Any]:
        """Build the report, write it to the output, send it to the service."""
        self._check()
        infos = [self.tasks[task.name].info for task in self.work.tasks]
        targets = [TargetInfo(local.target.label, local.target.role) for local in self.locals]
        report = build_report(self.reporter.spec["job_id"], infos, targets, self.results)
        samples = [
            sample for info in infos for target in targets for sample in self.results[info.name, target.label].samples
        ]
        write_files(self.folder / "report", report, infos, targets, samples)
        store = self.stores.get("output", self.stores["system"])
        manifest = upload_folder(store, self.work.output.bucket, self.work.output.prefix, self.folder / "report")
        report_sender.send_report(self.reporter, report)
        return {**vars(self.work.output), "manifest": manifest.to_json(), "sample_count": len(samples)}
