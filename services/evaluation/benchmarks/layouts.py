"""Reads benchmarks in their original layouts.

MMLU `{dev,val,test}/<subject>_<split>.csv`, no header, columns question, A, B, C, D, answer. CMMLU
`{dev,test}/<subject>.csv` with a header. C-Eval `{dev,val,test}/<subject>_<split>.csv` with a header and, on dev, an
explanation. Fields may span lines and line ends may be mixed. A wrong row is named by file and line.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.evaluation.benchmarks.presets import Preset

MAX_PROBLEMS = 20
_SUFFIX = ".csv"
_HEADERLESS = ("question", "A", "B", "C", "D", "answer")


@dataclass(frozen=True)
class Question:
    """One row. `line` is the physical line where it starts; `answer` is one of the labels."""

    subject: str
    file: str
    line: int
    question: str
    choices: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Problem:
    """What is wrong with a row or a file (line 0)."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class LayoutError(ValueError):
    """The files are not what the layout says; `problems` names each place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        more = f" (and {len(problems) - MAX_PROBLEMS} more)" if len(problems) > MAX_PROBLEMS else ""
        super().__init__("; ".join(str(problem) for problem in problems[:MAX_PROBLEMS]) + more)


@dataclass(frozen=True)
class Benchmark:
    """The questions of the scored split and the worked examples, by subject, in the order of the files."""

    questions: Mapping[str, tuple[Question, ...]]
    examples: Mapping[str, tuple[Question, ...]]

    @property
    def count(self) -> int:
        """Questions of all subjects."""
        return sum(len(rows) for rows in self.questions.values())


def read_benchmark(folder: Path, preset: Preset) -> Benchmark:
    """Read the scored split and, where the preset has shots, as many examples of each subject.

    Raises: LayoutError: a folder or file is missing, or rows are wrong (all of them are named).
    """
    root = find_root(folder, preset.split)
    problems: list[Problem] = []
    questions = _read_split(root, preset.split, preset.labels, problems)
    examples: dict[str, tuple[Question, ...]] = {}
    if preset.shots:
        try:
            examples = _read_split(root, "dev", preset.labels, problems, only=questions)
        except LayoutError as error:
            problems.extend(error.problems)
        for subject in questions if examples else ():
            if len(examples.get(subject, ())) < preset.shots:
                count = len(examples.get(subject, ()))
                advice = f"has {count} examples, fewer than the {preset.shots} shots: ask for {count} shots or fewer"
                problems.append(Problem(f"dev/{subject}", 0, advice))
            examples[subject] = examples.get(subject, ())[: preset.shots]
    if problems:
        raise LayoutError(problems)
    return Benchmark(questions, examples)


def holds_questions(path: str, split: str) -> bool:
    """Return whether a file, by its path below the benchmark's folder, holds questions of a split."""
    return path.endswith(_SUFFIX) and split in path.split("/")[:-1]


def find_root(folder: Path, split: str) -> Path:
    """Return the folder that holds the split's folder: the given one, or one below it (as archives unpack).

    Raises: LayoutError: there is none.
    """
    below = sorted(child for child in folder.iterdir() if child.is_dir())
    candidates = [folder, *below, *(grand for child in below for grand in sorted(child.iterdir()) if grand.is_dir())]
    for candidate in candidates:
        if (candidate / split).is_dir() and any((candidate / split).glob(f"*{_SUFFIX}")):
            return candidate
    found = ", ".join(child.name for child in below) or "no folder"
    raise LayoutError([Problem(split, 0, f"there is no folder {split}/ with CSV files (found: {found})")])


def subject_of(name: str, split: str) -> str:
    """Return the subject in a file's name: `anatomy_test.csv` and `anatomy.csv` are both `anatomy`."""
    return name.removesuffix(_SUFFIX).removesuffix(f"_{split}")


def _read_split(
    root: Path, split: str, labels: Sequence[str], problems: list[Problem], only: Iterable[str] | None = None
) -> dict[str, tuple[Question, ...]]:
    folder = root / split
    files = sorted(folder.glob(f"*{_SUFFIX}")) if folder.is_dir() else []
    if not files:
        raise LayoutError([Problem(f"{split}/", 0, "there are no CSV files")])
    wanted = set(only) if only is not None else None
    result = {}
    for path in files:
        subject = subject_of(path.name, split)
        if wanted is None or subject in wanted:
            result[subject] = tuple(read_file(path, f"{split}/{path.name}", subject, labels, problems))
            if not result[subject]:
                problems.append(Problem(f"{split}/{path.name}", 0, "has no question"))
    return result


def read_file(
    path: Path, name: str, subject: str, labels: Sequence[str], problems: list[Problem]
) -> Iterator[Question]:
    """Yield the good rows of one file; what is wrong with the others is added to `problems`."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.append(Problem(name, 0, f"is not UTF-8 (byte {error.start})"))
        return
    reader = csv.reader(io.StringIO(text, newline=""))
    columns: tuple[str, ...] = ()
    before = 0
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            problems.append(Problem(name, before + 1, f"is not CSV: {error}"))
            return
        line, before = before + 1, reader.line_num
        if row is None:
            return
        if not row:
            continue
        if not columns:
            columns = _columns(row)
            if columns != _HEADERLESS:
                continue
        question = _question(row, columns, labels)
        if isinstance(question, str):
            problems.append(Problem(name, line, question))
            continue
        text_of, answer = question
        yield Question(subject, name, line, text_of["question"], tuple(text_of[label] for label in labels), answer)


def _columns(first: Sequence[str]) -> tuple[str, ...]:
    """Return the column names from a header, or those of a file without one."""
    names = tuple(cell.strip() for cell in first)
    lowered = tuple(name if name in ("A", "B", "C", "D") else name.lower() for name in names)
    return lowered if {"question", "A", "B", "C", "D"} <= set(lowered) else _HEADERLESS


def _question(row: Sequence[str], columns: Sequence[str], labels: Sequence[str]) -> tuple[dict[str, str], str] | str:
    """Return a row's cells by name and its answer, or what is wrong with it. Answers may be in lower case."""
    needed = len(columns) - (columns[-1] == "explanation")
    if not needed <= len(row) <= len(columns):
        return f"has {len(row)} columns, {needed} are expected ({', '.join(columns)})"
    cells = {column: cell.strip() for column, cell in zip(columns, row, strict=False)}
    if "answer" not in cells:
        return "has no answer column, so it cannot be scored"
    answer = cells["answer"].upper()
    if answer not in labels:
        return f"answer {cells['answer']!r} is none of {', '.join(labels)}"
    if not cells["question"]:
        return "the question is empty"
    return cells, answer
