"""Presets, readers of the original layouts, prompts, categories."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from services.evaluation.benchmarks import categories, layouts, presets, prompts
from services.evaluation.messages import benchmark_message

pytestmark = pytest.mark.unit

ROW = '"What is 2 + 2?",3,4,5,6,B\r\n'
PUBLISHED = Path(__file__).resolve().parents[4] / "shared" / "data" / "eval"


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def mmlu(root: Path, rows: str = ROW) -> presets.Preset:
    write(root, "dev/anatomy_dev.csv", '"One\nor two?",1,2,3,4,A\nThree?,1,2,3,4,C\n')
    write(root, "test/anatomy_test.csv", rows)
    return presets.preset("mmlu", shots=2)


def test_mmlu_fields_may_span_lines(tmp_path: Path) -> None:
    found = layouts.read_benchmark(tmp_path, mmlu(tmp_path, ROW + '"A long\n\nquestion?",1,2,3,4,D\n' + ROW))
    questions = found.questions["anatomy"]
    assert [question.line for question in questions] == [1, 2, 5]
    assert questions[1].question == "A long\n\nquestion?"
    assert questions[0].choices == ("3", "4", "5", "6")
    assert [example.answer for example in found.examples["anatomy"]] == ["A", "C"]


def test_every_wrong_row_is_named_by_file_and_line(tmp_path: Path) -> None:
    preset = mmlu(tmp_path, ROW + "What?,1,2,3,B\n" + "Which?,1,2,3,4,E\n" + "Even?,1,2,3,5,b\n" + ",1,2,3,4,A\n")
    with pytest.raises(layouts.LayoutError) as caught:
        layouts.read_benchmark(tmp_path, preset)
    assert [str(problem) for problem in caught.value.problems] == [
        "test/anatomy_test.csv, line 2: has 5 columns, 6 are expected (question, A, B, C, D, answer)",
        "test/anatomy_test.csv, line 3: answer 'E' is none of A, B, C, D",
        "test/anatomy_test.csv, line 5: the question is empty",
    ]


def test_a_file_of_other_bytes_is_named(tmp_path: Path) -> None:
    preset = mmlu(tmp_path)
    (tmp_path / "test" / "law_test.csv").write_bytes("问题,1,2,3,4,A\n".encode("gbk"))
    with pytest.raises(layouts.LayoutError, match=r"test/law_test\.csv: is not UTF-8"):
        layouts.read_benchmark(tmp_path, preset)


def test_too_few_examples_are_named(tmp_path: Path) -> None:
    with pytest.raises(layouts.LayoutError, match="dev/anatomy: has 2 examples, fewer than the 3 shots"):
        layouts.read_benchmark(tmp_path, replace(mmlu(tmp_path), shots=3))


def test_a_missing_split_says_what_is_there(tmp_path: Path) -> None:
    mmlu(tmp_path)
    with pytest.raises(layouts.LayoutError, match=r"no folder val/ with CSV files \(found: dev, test\)"):
        layouts.read_benchmark(tmp_path, presets.preset("mmlu", split="val"))


def test_an_unpacked_archive_may_have_one_folder_more(tmp_path: Path) -> None:
    preset = mmlu(tmp_path / "data")
    assert layouts.read_benchmark(tmp_path, preset).count == 1


def test_cmmlu_and_ceval_headers(tmp_path: Path) -> None:
    write(tmp_path, "test/arts.csv", ",Question,A,B,C,D,Answer\n0,弹拨乐?,甲,乙,丙,丁,C\n")
    found = layouts.read_benchmark(tmp_path, presets.preset("cmmlu", shots=0))
    assert found.questions["arts"][0].choices == ("甲", "乙", "丙", "丁")
    write(tmp_path, "val/law_val.csv", "id,question,A,B,C,D,answer\n0,问?,a,b,c,d,A\n")
    write(tmp_path, "dev/law_dev.csv", "id,question,A,B,C,D,answer,explanation\n0,例?,a,b,c,d,D,因为\n1,x?,a,b,c,d,B\n")
    found = layouts.read_benchmark(tmp_path, presets.preset("ceval", shots=2))
    assert found.questions["law"][0].answer == "A"
    assert [example.answer for example in found.examples["law"]] == ["D", "B"]


def test_ceval_test_is_refused() -> None:
    with pytest.raises(presets.PresetError, match="never published") as caught:
        presets.preset("ceval", split="test")
    assert caught.value.field == "split"
    assert presets.preset("ceval").split == "val"


@pytest.mark.parametrize(
    ("field", "choice"),
    [
        ("shots", {"shots": 26}),
        ("split", {"split": "train"}),
        ("split", {"split": "dev"}),
        ("style", {"style": "poem"}),
        ("few_shot", {"few_shot": "turns"}),
        ("few_shot", {"few_shot": "song"}),
    ],
)
def test_a_choice_that_is_not_offered_is_named(field: str, choice: dict[str, object]) -> None:
    with pytest.raises(presets.PresetError) as caught:
        presets.preset("mmlu", **choice)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_the_digest_changes_with_all_that_changes_the_number() -> None:
    mine = presets.preset("mmlu")
    others = [
        presets.preset("mmlu", shots=0),
        presets.preset("mmlu", split="val"),
        presets.preset("mmlu", style="chat"),
        presets.preset("mmlu", style="chat", few_shot="turns"),
        replace(mine, delimiter=""),
        replace(mine, order="shuffled"),
        replace(mine, average="macro"),
        presets.preset("cmmlu"),
    ]
    assert len({mine.digest, *(other.digest for other in others)}) == len(others) + 1
    assert replace(mine, title="Another").digest == mine.digest


QUESTION = layouts.Question("anatomy", "f", 1, "Is {A} more than {question}?", ("a", "b", "c", "d"), "B")


def test_the_raw_prompt_is_the_published_one() -> None:
    preset = presets.preset("mmlu")
    assert prompts.raw_prompt(preset, "anatomy", [QUESTION], QUESTION) == (
        "The following are multiple choice questions (with answers) about anatomy.\n\n"
        "Is {A} more than {question}?\nA. a\nB. b\nC. c\nD. d\nAnswer: B\n\n"
        "Is {A} more than {question}?\nA. a\nB. b\nC. c\nD. d\nAnswer:"
    )


def test_a_chat_has_examples_in_one_message_or_as_turns() -> None:
    one = prompts.chat_prompt(presets.preset("mmlu", style="chat"), "anatomy", [QUESTION], QUESTION)
    assert [message["role"] for message in one] == ["user"]
    turns = prompts.chat_prompt(presets.preset("mmlu", style="chat", few_shot="turns"), "anatomy", [QUESTION], QUESTION)
    assert [message["role"] for message in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"] == "B"
    assert turns[0]["content"].startswith("The following")
    assert not turns[2]["content"].startswith("The following")


@pytest.mark.parametrize("preset", presets.PRESETS.values(), ids=lambda preset: str(preset.name))
def test_every_preset_is_shown_and_makes_a_prompt(preset: presets.Preset) -> None:
    shown = benchmark_message(preset)
    assert (shown.name, shown.title, shown.license) == (preset.name, preset.title, preset.license)
    assert preset.split in preset.splits and shown.category_by_subject
    question = replace(QUESTION, choices=tuple(f"choice {label}" for label in preset.labels))
    prompt = prompts.raw_prompt(preset, "anatomy", [], question)
    assert question.question in prompt and all(choice in prompt for choice in question.choices)


def test_files_of_a_split_are_told_by_their_path() -> None:
    assert layouts.holds_questions("data/test/anatomy_test.csv", "test")
    others = ("test/readme.txt", "dev/anatomy_dev.csv", "test.csv", "anatomy_test.csv", "test/..csv/x")
    assert not any(layouts.holds_questions(path, "test") for path in others)


SUBJECTS: dict[presets.Layout, int] = {"mmlu": 57, "cmmlu": 67, "ceval": 52}
"""How many subjects the published table of a layout has."""


def test_the_tables_cover_whole_benchmarks_once() -> None:
    assert {preset.layout for preset in presets.PRESETS.values()} == set(SUBJECTS)
    for layout, count in SUBJECTS.items():
        table = categories.shipped_categories(layout)
        assert len(table.category) == len(table.titles) == count
        assert set(table.category.values()) <= set(categories.CATEGORIES)
        assert all(members <= set(table.category) for members in table.overlapping.values())


def answers(*rows: tuple[str, int, int]) -> list[categories.Answer]:
    return [categories.Answer(subject, n < right) for subject, right, count in rows for n in range(count)]


def test_average_is_micro_with_macro_beside_it() -> None:
    table = categories.shipped_categories("mmlu")
    scores = {
        score.name: score
        for score in categories.category_scores(answers(("anatomy", 1, 10), ("astronomy", 2, 2)), table)
    }
    assert list(scores) == ["STEM", "Other", "Average"]
    assert scores["Average"].micro == 3 / 12
    assert scores["Average"].macro == (0.1 + 1) / 2
    assert scores["STEM"].right == 2
    assert scores["Average"].interval.low < 0.25 < scores["Average"].interval.high


def test_overlapping_groups_count_once_in_the_average() -> None:
    table = categories.shipped_categories("cmmlu")
    scores = {s.name: s for s in categories.category_scores(answers(("ethnology", 1, 4), ("arts", 1, 4)), table)}
    assert scores["China specific"].count == 4
    assert scores["Average"].count == 8


def test_an_unparsed_answer_is_counted() -> None:
    table = categories.shipped_categories("mmlu")
    score = categories.category_scores([categories.Answer("anatomy", False, parsed=False)], table)[0]
    assert (score.unparsed, score.micro) == (1, 0)


def test_a_comparison_is_made_per_category() -> None:
    table = categories.shipped_categories("mmlu")
    baseline, candidate = answers(("anatomy", 0, 20), ("law", 3, 6)), answers(("anatomy", 18, 20), ("law", 3, 6))
    found = categories.compare_categories(baseline, candidate, table)
    assert found["Average"].words == "better"
    assert found["Average"].value == 18 / 26
    with pytest.raises(ValueError, match="same questions"):
        categories.compare_categories(baseline, candidate[1:], table)


def test_own_subjects_get_their_category_from_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "categories.json", json.dumps({"warranty": "Social Sciences"}))
    table = categories.load_categories("mmlu", tmp_path)
    assert table.of("warranty") == "Social Sciences"
    assert table.of("anatomy") == "Other"
    assert table.unknown(["warranty", "spares"]) == ["spares"]
    write(tmp_path, "categories.json", json.dumps({"warranty": "Mine"}))
    with pytest.raises(ValueError, match="'Mine' of 'warranty'"):
        categories.load_categories("mmlu", tmp_path)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published benchmarks are not on this machine")
@pytest.mark.parametrize(("name", "count"), [("mmlu", 7803), ("cmmlu", 5890), ("ceval", 635)])
def test_published_benchmarks_are_read_whole(name: str, count: int) -> None:
    preset = presets.preset(name)
    found = layouts.read_benchmark(PUBLISHED / name, preset)
    assert found.count == count
    table = categories.load_categories(preset.layout, PUBLISHED / name)
    published = json.loads((PUBLISHED / "mappings" / f"{name}.json").read_text())["subjects"]
    assert dict(table.category) == published
    assert {len(rows) for rows in found.examples.values()} == {5}
