"""From samples to a report and its files."""

import csv
import json
from pathlib import Path

import pytest

from services.evaluation.benchmarks.categories import shipped_categories
from services.evaluation.reporting.build import Measured, TargetInfo, TaskInfo, build_report
from services.evaluation.reporting.files import FILES, write_files
from services.evaluation.reporting.page import metric_title, write_page
from services.evaluation.reporting.radar import radar
from services.evaluation.reporting.samples import Sample, choice_sample, text_sample
from services.evaluation.scoring.stopwords import NO_STOPWORDS

pytestmark = pytest.mark.unit

TARGETS = [TargetInfo("base", "baseline"), TargetInfo("tuned <1>", "candidate")]
PRESET = TaskInfo("mmlu", "MMLU", shipped_categories("mmlu"), {"prompt_digest": "abc"})
CUSTOM = TaskInfo("desk", "desk", None, {"tokenizer": "x"})


def choice_results(target: str, rights: int) -> Measured:
    subjects = ("anatomy", "astronomy", "law", "sociology")
    samples = []
    for index in range(40):
        chosen = "A" if index < rights else "B"
        question = (subjects[index % 4], f"Question {index}?", "A")
        samples.append(choice_sample("mmlu", target, index, question, (chosen, {"A": -0.5, "B": -1.5})))
    return Measured(samples)


def text_results(target: str, outputs: list[str | None]) -> Measured:
    pairs = [
        text_sample(
            "desk", target, index, ("hours" if index % 2 else "", "When?", ["We open at nine"]), text, NO_STOPWORDS
        )
        for index, text in enumerate(outputs)
    ]
    return Measured([sample for sample, _ in pairs], [score for _, score in pairs])


@pytest.fixture(scope="module")
def results() -> dict[tuple[str, str], Measured]:
    return {
        ("mmlu", "base"): choice_results("base", 20),
        ("mmlu", "tuned <1>"): choice_results("tuned <1>", 21),
        ("desk", "base"): text_results("base", ["I do not know"] * 20 + [None]),
        ("desk", "tuned <1>"): text_results("tuned <1>", ["We open at nine"] * 20 + [None]),
    }


@pytest.fixture(scope="module")
def report(results: dict[tuple[str, str], Measured]) -> dict[str, object]:
    return build_report("eval-1", [PRESET, CUSTOM], TARGETS, results)


def rows(report: dict[str, object], name: str) -> list[dict[str, object]]:
    return report[name]  # type: ignore[return-value]


def test_scores_have_intervals_counts_and_bleu_from_0_to_100(report: dict[str, object]) -> None:
    found = {(row["task"], row["target"], row["metric"], row["group"]): row for row in rows(report, "scores")}
    average = found["mmlu", "base", "accuracy", "Average"]
    assert average["value"] == 0.5
    assert 0.3 < float(str(average["interval_low"])) < 0.5 < float(str(average["interval_high"])) < 0.7
    assert found["mmlu", "base", "accuracy", "astronomy"]["sample_count"] == 10
    assert found["desk", "tuned <1>", "bleu", "Average"]["value"] == pytest.approx(100)
    assert found["desk", "tuned <1>", "rouge_l_f", "Average"]["value"] == 1
    assert found["desk", "base", "rouge_l_f", "Average"]["unscored_count"] == 1
    assert found["desk", "base", "rouge_l_f", "hours"]["sample_count"] == 10


def test_comparisons_say_whether_it_is_more_than_chance(report: dict[str, object]) -> None:
    verdicts = {(row["task"], row["metric"], row["group"]): row["verdict"] for row in rows(report, "comparisons")}
    assert verdicts["mmlu", "accuracy", "Average"] == "no significant difference"
    assert verdicts["desk", "rouge_l_f", "Average"] == "better"
    assert ("desk", "rouge_l_recall", "Average") not in verdicts  # recall rewards rambling: F decides
    assert report["main_metrics"] == {"mmlu": "accuracy", "desk": "rouge_l_f"}


def test_the_report_is_the_api_message(report: dict[str, object]) -> None:
    from google.protobuf import json_format

    from modelry.evaluation.v1 import evaluation_pb2

    message = json_format.ParseDict(report, evaluation_pb2.Report())
    assert message.scores[0].metric == "accuracy"


def test_the_four_files(report: dict[str, object], results: dict[tuple[str, str], Measured], tmp_path: Path) -> None:
    samples = [sample for measured in results.values() for sample in measured.samples]
    write_files(tmp_path, report, [PRESET, CUSTOM], TARGETS, samples)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    assert json.loads((tmp_path / "report.json").read_text())["evaluation_id"] == "eval-1"
    with (tmp_path / "scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows(report, "scores"))
    lines = (tmp_path / "samples.jsonl").read_text().splitlines()
    written = [json.loads(line) for line in lines]
    assert [Sample(**{**row, "references": tuple(row["references"])}) for row in written] == samples


def test_the_page_is_self_contained_and_escapes(report: dict[str, object]) -> None:
    evil = text_sample("desk", "base", 0, ("", "<script>alert(1)</script>", ["a"]), "<img src=x>", NO_STOPWORDS)[0]
    page = write_page(report, [PRESET, CUSTOM], TARGETS, [evil])
    assert "no significant difference" in page
    assert "<svg" in page
    assert "tuned &lt;1&gt;" in page
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "http" not in page


def test_metric_titles() -> None:
    assert metric_title("rouge_l_f") == "ROUGE-L F"
    assert metric_title("rouge_1_recall") == "ROUGE-1 recall"
    assert metric_title("accuracy") == "Accuracy"


def test_a_radar_needs_three_axes_and_stays_inside() -> None:
    assert radar(["a", "b"], {"x": [1, 1]}, "t") == ""
    drawn = radar(["a", "b", "c"], {"x": [0, 0.5, 7]}, "t")
    assert drawn.count("<polygon") == 4 + 1
