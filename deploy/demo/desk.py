"""The demo's data: the support desk of an invented company, as files that the journey puts into a bucket."""

import csv
import io
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

LETTERS = "ABCD"


@dataclass(frozen=True)
class Desk:
    """What is trained, what is asked afterwards, and the words of both.

    Attributes:
        training: rows in the Alpaca layout.
        held_out: (question, reference) of ways to ask that are not trained.
    """

    training: tuple[dict[str, str], ...]
    held_out: tuple[tuple[str, str], ...]

    def training_file(self) -> bytes:
        """Return the training rows as JSON Lines."""
        return _lines(list(self.training))

    def evaluation_file(self) -> bytes:
        """Return the held-out questions as evaluation pairs."""
        return _lines([{"question": question, "answer": answer} for question, answer in self.held_out])


def read_desk() -> Desk:
    """Return the support desk of the data file."""
    data = _read("support_desk.yaml")
    rows = [(question, fact["answer"]) for fact in data["facts"] for question in fact["ask"][:-1]]
    rows += [(row["ask"], row["answer"]) for row in data["chat"]]
    rows += [(question, data["unknown_answer"]) for question in data["unknown"]]
    training = tuple({"instruction": question, "input": "", "output": answer} for question, answer in rows)
    return Desk(training, tuple((fact["ask"][-1], fact["answer"]) for fact in data["facts"]))


def quiz_files() -> dict[str, bytes]:
    """Return a small benchmark in MMLU's layout: `dev/SUBJECT_dev.csv` and `test/SUBJECT_test.csv`."""
    files: dict[str, bytes] = {}
    for subject, splits in _read("quiz.yaml").items():
        for split, rows in splits.items():
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            for number, row in enumerate(rows):
                question, right, *wrong = row.split(" | ")
                place = (7 * number + len(question)) % 4
                choices = [*wrong[:place], right, *wrong[place:]]
                writer.writerow([question, *choices, LETTERS[place]])
            files[f"{split}/{subject}_{split}.csv"] = text.getvalue().encode()
    return files


def _read(name: str) -> Any:
    return yaml.safe_load(resources.files("deploy.demo").joinpath("data", name).read_text("utf-8"))


def _lines(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
