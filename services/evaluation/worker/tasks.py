"""Brings a task's data to this machine and reads it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.chassis.errors import Invalid
from services.chassis.objects import Manifest, NodeCache, ObjectStore, folder_prefix
from services.chassis.paths import inside
from services.evaluation.benchmarks import categories, layouts, presets
from services.evaluation.benchmarks.layouts import Benchmark
from services.evaluation.reporting.build import TaskInfo
from services.evaluation.scoring import texts
from services.evaluation.scoring.stopwords import StopWords, parse_stopwords, preset_stopwords, union
from services.evaluation.scoring.tokens import TOKENIZER_NAME
from services.evaluation.work_spec import CustomTask, PresetTask

MAX_BENCHMARK_FILES = 2000


@dataclass(frozen=True)
class LoadedPreset:
    """A preset benchmark, read: its questions by subject in the order in which samples are numbered."""

    info: TaskInfo
    preset: presets.Preset
    benchmark: Benchmark
    categories: categories.Categories

    @property
    def count(self) -> int:
        """Questions."""
        return self.benchmark.count


@dataclass(frozen=True)
class Row:
    """A row of an own set."""

    messages: tuple[Mapping[str, Any], ...]
    references: tuple[str, ...]
    category: str

    @property
    def question(self) -> tuple[str, str, tuple[str, ...]]:
        """Its category, what is asked, and the references."""
        return self.category, self.prompt, self.references

    @property
    def prompt(self) -> str:
        """What is asked, as the report shows it: the last message, or all of a longer conversation."""
        if len(self.messages) == 1:
            return str(self.messages[0].get("content", ""))
        return "\n".join(f"{message.get('role')}: {message.get('content', '')}" for message in self.messages)


@dataclass(frozen=True)
class LoadedCustom:
    """An own set, read."""

    info: TaskInfo
    rows: tuple[Row, ...]
    stopwords: StopWords

    @property
    def count(self) -> int:
        """Questions."""
        return len(self.rows)


def load_preset(task: PresetTask, store: ObjectStore, folder: Path) -> LoadedPreset:
    """Download a preset benchmark into a folder and read it.

    Raises: LayoutError, PresetError: what is there cannot be scored. Invalid: nothing is there.
    """
    preset = presets.preset(task.preset, split=task.split, shots=task.shots)
    digest = _download(task, store, folder, preset)
    read = layouts.read_benchmark(folder, preset)
    unknown = sorted(set(task.subjects) - set(read.questions))
    if unknown:
        known = ", ".join(read.questions)
        raise Invalid(f"There is no subject {', '.join(unknown)} in {task.name}; there are {known}.", field="subjects")
    chosen = {
        subject: rows[: task.max_samples] if task.max_samples else rows
        for subject, rows in read.questions.items()
        if not task.subjects or subject in task.subjects
    }
    table = categories.load_categories(preset.layout, layouts.find_root(folder, preset.split))
    settings = _preset_settings(preset, digest, task, table.unknown(list(chosen)))
    info = TaskInfo(task.name, f"{preset.title}: {task.name}", table, settings)
    return LoadedPreset(info, preset, Benchmark(chosen, read.examples), table)


def _download(task: PresetTask, store: ObjectStore, folder: Path, preset: presets.Preset) -> str:
    """Fetch the files of the needed splits; returns the digest of their content."""
    prefix = folder_prefix(task.prefix)
    wanted = {preset.split, *(("dev",) if preset.shots else ())}
    count = 0
    for entry in store.list(task.bucket, prefix):
        name = entry.key.removeprefix(prefix)
        parts = name.split("/")
        if parts[-1] != categories.OWN_TABLE and not any(layouts.holds_questions(name, split) for split in wanted):
            continue
        if len(parts) > 4:
            continue
        count += 1
        if count > MAX_BENCHMARK_FILES:
            raise Invalid(f"There are more than {MAX_BENCHMARK_FILES} files below {prefix}.", field="location.prefix")
        target = inside(folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        store.download_file(task.bucket, entry.key, target)
    if not count:
        splits = " and ".join(f"{split}/" for split in sorted(wanted))
        raise Invalid(f"There are no CSV files in {splits} below {task.bucket}/{prefix}.", field="location.prefix")
    return Manifest.of_folder(folder).digest


def _preset_settings(preset: presets.Preset, digest: str, task: PresetTask, unknown: Sequence[str]) -> dict[str, str]:
    settings = {
        "preset": preset.name,
        "prompt_digest": preset.digest,
        "split": preset.split,
        "shots": str(preset.shots),
        "style": preset.style,
        "few_shot": preset.few_shot,
        "delimiter": json.dumps(preset.delimiter),
        "labels": " ".join(preset.labels),
        "order": preset.order,
        "average": preset.average,
        "method": "log-probability of the label's token, restricted to the labels",
        "data_digest": digest,
        "max_samples": str(task.max_samples or "all"),
        "subjects": ", ".join(task.subjects) or "all",
    }
    if unknown:
        settings["subjects_without_category"] = f"counted as Other: {', '.join(unknown)}"
    return settings


def load_custom(task: CustomTask, store: ObjectStore, cache: NodeCache) -> LoadedCustom:
    """Download and read an own set. Raises: Invalid: a row has no references."""
    folder = cache.fetch(store, task.bucket, task.prefix, task.manifest)
    rows = read_rows(folder / task.file, task)
    stopwords = union(
        parse_stopwords(one.name, "\n".join(one.words)) if one.words else preset_stopwords(one.name)
        for one in task.stopwords
    )
    settings = {
        "data_digest": task.manifest.digest,
        "tokenizer": TOKENIZER_NAME,
        "stopwords": stopwords.name,
        "stopwords_digest": stopwords.digest,
        "metric": texts.metric_name(TaskInfo("", "").main_metric, stopwords),
        "bleu": "sentence: effective order, exponential smoothing; corpus: neither",
        "references": "the best one counts",
        "max_samples": str(task.max_samples or "all"),
        "system_prompt": task.system_prompt or "none",
    }
    return LoadedCustom(TaskInfo(task.name, task.name, None, settings), tuple(rows), stopwords)


def read_rows(path: Path, task: CustomTask) -> list[Row]:
    """Return the rows of a canonical file. Raises: Invalid: it is no evaluation set."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(path)
    if "references" not in table.column_names:
        raise Invalid(f"The data set of {task.name} has no references: import it as evaluation pairs.", field="dataset")
    columns = [name for name in ("messages", "references", "category") if name in table.column_names]
    rows = []
    for raw in table.select(columns).to_pylist():
        row = Row(tuple(json.loads(raw["messages"])), tuple(json.loads(raw["references"])), raw.get("category") or "")
        if task.system_prompt and row.messages[0].get("role") != "system":
            row = replace(row, messages=({"role": "system", "content": task.system_prompt}, *row.messages))
        rows.append(row)
    return rows[: task.max_samples] if task.max_samples else rows
