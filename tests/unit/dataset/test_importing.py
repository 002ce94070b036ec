"""What an import accepts, refuses and says: the formats, every kind of bad row, the policies."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from services.dataset.reading.formats import Format
from services.dataset.reading.importing import Findings, Options, import_sources
from services.dataset.reading.problems import FileRefused
from services.dataset.reading.source import ByteSource

pytestmark = pytest.mark.unit

ANY = Options(max_bad_rows=1_000_000)
GOOD = {"instruction": "What opens at nine?", "input": "", "output": "The desk."}


def read(folder: Path, data: bytes | str | list[Any], options: Options = ANY, name: str = "x.jsonl") -> Findings:
    if isinstance(data, list):
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in data)
    raw = data.encode() if isinstance(data, str) else data
    findings = Findings()
    import_sources([ByteSource(io.BytesIO(raw), name)], folder, options, findings, lambda good, bad: None)
    return findings


def rows_in(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / "data.parquet").to_pylist()
    return rows


def errors_of(folder: Path, data: bytes | str | list[Any], **options: Any) -> list[tuple[int, str, str]]:
    findings = read(folder, data, Options(max_bad_rows=1_000_000, **options))
    return [(error.line, error.field, error.code) for _, error in findings.errors]


def refusal(folder: Path, data: bytes | str | list[Any], name: str = "x.json", **options: Any) -> FileRefused:
    with pytest.raises(FileRefused) as caught:
        read(folder, data, Options(max_bad_rows=1_000_000, **options), name)
    return caught.value


def test_alpaca_becomes_messages(tmp_path: Path) -> None:
    row = {
        "instruction": "Translate.",
        "input": "Haus",
        "output": "house",
        "system": "You translate.",
        "history": [["Hi", "Hello"]],
    }
    findings = read(tmp_path, [row])
    assert findings.format is Format.ALPACA
    (stored,) = rows_in(tmp_path)
    assert (stored["line"], stored["tools"]) == (1, None)
    assert json.loads(stored["messages"]) == [
        {"role": "system", "content": "You translate."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Translate.\nHaus"},
        {"role": "assistant", "content": "house"},
    ]


def test_sharegpt_calls_and_results_become_tool_turns(tmp_path: Path) -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "Weather?"},
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Köln"}}'},
            {"from": "observation", "value": '{"t": 3}'},
            {"from": "gpt", "value": "Three degrees."},
        ],
        "tools": '[{"name": "weather", "parameters": {"type": "object"}}]',
        "system": "Help.",
    }
    assert read(tmp_path, [row]).format is Format.SHAREGPT
    (stored,) = rows_in(tmp_path)
    system, user, call, result, answer = json.loads(stored["messages"])
    assert (system["role"], user["content"], answer["content"]) == ("system", "Weather?", "Three degrees.")
    assert call["content"] == "" and json.loads(call["tool_calls"][0]["function"]["arguments"]) == {"city": "Köln"}
    assert result == {"role": "tool", "content": '{"t": 3}', "tool_call_id": call["tool_calls"][0]["id"]}
    assert json.loads(stored["tools"])[0]["function"]["name"] == "weather"


def test_openai_messages_join_text_parts_and_keep_a_zero_weight(tmp_path: Path) -> None:
    row = {
        "messages": [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "Hi "}, {"type": "text", "value": "you"}]},
            {"role": "assistant", "content": "no", "weight": 0},
            {"role": "user", "content": "again"},
            {"role": "assistant", "content": "yes", "weight": 1},
        ]
    }
    assert read(tmp_path, [row]).format is Format.OPENAI_MESSAGES
    messages = json.loads(rows_in(tmp_path)[0]["messages"])
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert messages[1]["content"] == "Hi you"
    assert messages[2] == {"role": "assistant", "content": "no", "weight": 0}
    assert "weight" not in messages[4]


def test_pairs_carry_references_and_category(tmp_path: Path) -> None:
    rows = [
        {"question": "2+2?", "answer": "4", "category": "sums"},
        {"question": "Hi?", "answer": ["Hello", "Hi"], "class": "x"},
    ]
    findings = read(tmp_path, rows)
    assert findings.format is Format.EVALUATION_PAIRS
    first, second = rows_in(tmp_path)
    assert json.loads(first["messages"]) == [{"role": "user", "content": "2+2?"}]
    assert (json.loads(first["references"]), first["category"]) == (["4"], "sums")
    assert json.loads(second["references"]) == ["Hello", "Hi"]
    assert findings.statistics["rows_by_category"] == {"sums": 1}


@pytest.mark.parametrize(
    "names", [("prompt", "answer"), ("input", "output"), ("query", "reference"), ("question", "std_answer")]
)
def test_pairs_are_known_by_their_usual_columns(tmp_path: Path, names: tuple[str, str]) -> None:
    assert read(tmp_path, [{names[0]: "a?", names[1]: "b"}]).format is Format.EVALUATION_PAIRS


def test_training_rows_chosen_as_pairs_give_their_last_answer(tmp_path: Path) -> None:
    options = Options(format=Format.EVALUATION_PAIRS)
    read(tmp_path, [GOOD], options)
    (stored,) = rows_in(tmp_path)
    assert json.loads(stored["messages"]) == [{"role": "user", "content": GOOD["instruction"]}]
    assert json.loads(stored["references"]) == [GOOD["output"]]


def test_columns_can_be_mapped_and_errors_use_the_source_names(tmp_path: Path) -> None:
    rows = [{"prompt_text": "Why?", "reply": "So."}, {"prompt_text": "Why?", "reply": 7}]
    options = Options(columns={"instruction": "prompt_text", "output": "reply"}, max_bad_rows=1)
    findings = read(tmp_path, rows, options)
    assert findings.format is Format.ALPACA
    ((_, error),) = findings.errors
    assert (error.line, error.field, error.message) == (2, "reply", 'Expected a string in "reply", got number.')


def test_a_mapping_of_a_missing_column_is_refused(tmp_path: Path) -> None:
    refused = refusal(tmp_path, [GOOD], columns={"output": "reply"})
    assert (refused.reason, refused.field) == ("UNKNOWN_COLUMNS", "columns")
    assert "reply" in refused.message and "instruction, input, output" in refused.message


def test_a_chosen_format_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    refused = refusal(tmp_path, [GOOD], format=Format.SHAREGPT)
    assert (refused.reason, refused.field) == ("UNKNOWN_COLUMNS", "format")


BAD_ROWS: list[tuple[str, str, str]] = [
    ('{"instruction": "a", "output": 42}', "output", "WRONG_TYPE"),
    ('{"instruction": "a", "output": null}', "output", "WRONG_TYPE"),
    ('{"instruction": "a", "output": " "}', "output", "EMPTY_ANSWER"),
    ('{"instruction": "", "input": " ", "output": "b"}', "instruction", "EMPTY_FIELD"),
    ('{"instruction": "a"}', "output", "MISSING_FIELD"),
    ('{"output": "a"}', "instruction", "MISSING_FIELD"),
    ('{"instruction": "a", "output": "b", "history": ["x", "y"]}', "history[0]", "BAD_HISTORY"),
    ('{"instruction": "a", "output": "b", "history": [["x"]]}', "history[0]", "BAD_HISTORY"),
    ('{"instruction": "a", "output": "b", "history": 3}', "history", "BAD_HISTORY"),
    ('{"instruction": "a", "output": "b"', "", "INVALID_JSON"),
    ('{"instruction": "a", "output": "b}', "", "INVALID_JSON"),
    ('{"instruction": NaN, "output": "b"}', "instruction", "NOT_A_NUMBER"),
    ('{"instruction": "a", "output": "b", "m": {"x": [-Infinity]}}', "m.x[0]", "NOT_A_NUMBER"),
    ('{"instruction": "a", "output": "b", "score": 1e999}', "score", "NUMBER_OUT_OF_RANGE"),
    ('{"instruction": "a", "output": "b", "output": "c"}', "output", "DUPLICATE_KEY"),
    ('{"instruction": "a: b", "output": "b", "x": {"y" : 1, "y" : 2}}', "y", "DUPLICATE_KEY"),
    ('{"instruction": "a \\ud83d", "output": "b"}', "instruction", "LONE_SURROGATE"),
    ('{"instruction": "a \\ude00 c", "output": "b"}', "instruction", "LONE_SURROGATE"),
    ('["a", "b"]', "", "NOT_OBJECT"),
    ('{"a":' + "[" * 5000 + "]" * 5000 + "}", "", "TOO_DEEP"),
]


@pytest.mark.parametrize(("row", "field", "code"), BAD_ROWS)
def test_a_bad_row_is_named_and_the_others_stay(tmp_path: Path, row: str, field: str, code: str) -> None:
    good = json.dumps(GOOD)
    findings = read(tmp_path, f"{good}\n\n{row}\n{good}\n")
    ((_, error),) = findings.errors
    assert (error.line, error.field, error.code) == (3, field, code)
    assert error.message
    assert findings.row_count == 2


def test_a_valid_pair_and_colons_in_text_are_no_problem(tmp_path: Path) -> None:
    read(tmp_path, '{"instruction": "say \\ud83d\\ude00 or \\": :", "output": "a: {\\"b\\": 1}"}', Options())
    messages = json.loads(rows_in(tmp_path)[0]["messages"])
    assert messages[0]["content"] == 'say 😀 or ": :'


USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(
    ("row", "field", "code"),
    [
        ({"messages": []}, "messages", "EMPTY_FIELD"),
        ({"messages": "x"}, "messages", "WRONG_TYPE"),
        ({"messages": [3]}, "messages[0]", "WRONG_TYPE"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role", "UNKNOWN_ROLE"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "MISSING_FIELD"),
        ({"messages": [ANSWER]}, "messages[0]", "WRONG_FIRST_TURN"),
        ({"messages": [USER]}, "messages[0]", "NO_ANSWER"),
        ({"messages": [USER, ANSWER, USER]}, "messages[2]", "NO_ANSWER"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0]", "NO_ANSWER"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "messages[1].content", "EMPTY_ANSWER"),
        ({"messages": [USER, {"role": "assistant"}]}, "messages[1].content", "MISSING_FIELD"),
        ({"messages": [{"role": "user", "content": 5}, ANSWER]}, "messages[0].content", "WRONG_TYPE"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]},
            "messages[0].content[0]",
            "UNSUPPORTED_CONTENT",
        ),
        (
            {
                "messages": [
                    USER,
                    {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "g", "arguments": "{}"}}]},
                ],
                "tools": TOOLS,
            },
            "messages[1].tool_calls[0]",
            "BAD_TOOL_CALL",
        ),
        (
            {
                "messages": [
                    USER,
                    {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": '{"a'}}]},
                ]
            },
            "messages[1].tool_calls[0].function.arguments",
            "BAD_TOOL_CALL",
        ),
        (
            {
                "messages": [
                    USER,
                    {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {}}}]},
                ]
            },
            "messages[1].tool_calls[0].function.arguments",
            "BAD_TOOL_CALL",
        ),
        (
            {
                "messages": [
                    USER,
                    {"role": "assistant", "tool_calls": [CALL]},
                    {"role": "tool", "tool_call_id": "c2", "content": ""},
                    ANSWER,
                ]
            },
            "messages[2].tool_call_id",
            "BAD_TOOL_CALL",
        ),
        ({"messages": [USER, ANSWER], "tools": " "}, "tools", "BAD_TOOLS"),
        ({"messages": [USER, ANSWER], "tools": '[{"na'}, "tools", "BAD_TOOLS"),
        ({"messages": [USER, ANSWER], "tools": [{"type": "function"}]}, "tools[0]", "BAD_TOOLS"),
    ],
)
def test_a_bad_conversation_is_named(tmp_path: Path, row: dict[str, Any], field: str, code: str) -> None:
    good = {"messages": [USER, ANSWER], "tools": []}
    assert errors_of(tmp_path, [good, row]) == [(2, field, code)]


@pytest.mark.parametrize(
    ("turns", "field", "code"),
    [
        ([{"from": "bot", "value": "x"}], "conversations[0].from", "UNKNOWN_ROLE"),
        ([{"value": "x"}], "conversations[0].from", "MISSING_FIELD"),
        ([{"from": "gpt", "value": "x"}], "conversations[0]", "WRONG_FIRST_TURN"),
        ([{"from": "human", "value": "x"}, {"from": "gpt", "value": ""}], "conversations[1].value", "EMPTY_ANSWER"),
        ([{"from": "human", "value": "x"}, {"from": "gpt"}], "conversations[1].value", "MISSING_FIELD"),
        ([{"from": "human", "value": "x"}, {"from": "observation", "value": "1"}], "conversations[1]", "BAD_TOOL_CALL"),
        (
            [{"from": "human", "value": "x"}, {"from": "function_call", "value": "f("}],
            "conversations[1].value",
            "BAD_TOOL_CALL",
        ),
    ],
)
def test_a_bad_sharegpt_row_is_named(tmp_path: Path, turns: list[Any], field: str, code: str) -> None:
    good = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    assert errors_of(tmp_path, [good, {"conversations": turns}]) == [(2, field, code)]


@pytest.mark.parametrize(
    ("data", "name", "reason", "words"),
    [
        (b"", "x.json", "EMPTY_FILE", "0 bytes"),
        (b"\xef\xbb\xbf \r\n", "x.json", "EMPTY_FILE", "white space"),
        (b"\x1f\x8b\x08rest", "x.jsonl.gz", "COMPRESSED", "compressed imports come later"),
        (b"PK\x03\x04rest", "x.zip", "COMPRESSED", "zip"),
        (b"PAR1rest", "x.parquet", "FORMAT_NOT_SUPPORTED", "Parquet"),
        (b"<!DOCTYPE html><html></html>", "x.json", "NOT_JSON", "HTML"),
        (b"a,b\n1,2\n", "x.csv", "FORMAT_NOT_SUPPORTED", "CSV"),
        (b"hello world", "x.txt", "NOT_JSON", "hello"),
        ('[{"instruction": "中文", "output": "b"}]'.encode("gbk"), "x.json", "NOT_UTF8", "GB18030"),
        ('[{"instruction": "a", "output": "b"}]'.encode("utf-16"), "x.json", "NOT_UTF8", "UTF-16"),
        (b"[]", "x.json", "NO_ROWS", "no usable row"),
        (b'[{"instruction": "a", "output": "b"},]', "x.json", "INVALID_JSON", "line 1 column 38"),
        (b'[{"instruction": "a",\n "output" "b"}]', "x.json", "INVALID_JSON", "line 2 column 11"),
        (
            b'{"instruction": "a",\n"output": "b"}\n{"instruction": "a",\n"output": "c"}',
            "x.json",
            "INVALID_JSON",
            "JSON Lines",
        ),
        (b'[{"conversations": [], "chosen": {}, "rejected": {}}]', "x.json", "PREFERENCE_DATA", "chosen"),
        (b'[{"text": "a"}]', "x.json", "UNKNOWN_COLUMNS", "(text)"),
    ],
)
def test_a_source_that_cannot_be_read_says_why(tmp_path: Path, data: bytes, name: str, reason: str, words: str) -> None:
    refused = refusal(tmp_path, data, name)
    assert refused.reason == reason
    assert words in refused.message


def test_json_lines_named_json_and_one_object_are_read_with_a_note(tmp_path: Path) -> None:
    findings = read(tmp_path, [GOOD, GOOD], name="x.json")
    assert (findings.row_count, [note.code for note in findings.notes.items]) == (2, ["JSON_LINES"])
    findings = read(tmp_path, json.dumps(GOOD, indent=1), name="x.json")
    assert (findings.row_count, [note.code for note in findings.notes.items]) == (1, ["ONE_OBJECT"])


def test_a_broken_first_line_does_not_hide_json_lines(tmp_path: Path) -> None:
    findings = read(tmp_path, '{"instruction": "a", "outp\n' + json.dumps(GOOD) + "\n", name="x.json")
    assert (findings.row_count, [error.line for _, error in findings.errors]) == (1, [1])


def test_reject_fails_after_naming_every_bad_row(tmp_path: Path) -> None:
    findings = Findings()
    data = "".join(json.dumps(GOOD if i % 2 else {"instruction": "a", "output": i}) + "\n" for i in range(3000))
    with pytest.raises(
        FileRefused, match=r"1500 rows were refused and the policy is REJECT\. The first refused is 1: "
    ) as caught:
        import_sources([ByteSource(io.BytesIO(data.encode()), "x")], tmp_path, Options(), findings, lambda a, b: None)
    assert caught.value.reason == "BAD_ROWS"
    assert (findings.bad_row_count, len(findings.errors)) == (1500, 1000)
    assert findings.errors[-1][1].line == 1999


def test_skip_leaves_out_as_many_as_it_may(tmp_path: Path) -> None:
    rows = [GOOD, {"instruction": "a", "output": 1}, {"instruction": "a", "output": 2}]
    assert read(tmp_path, rows, Options(max_bad_rows=2)).row_count == 1
    with pytest.raises(FileRefused, match="2 rows were refused and the policy leaves out at most 1"):
        read(tmp_path, rows, Options(max_bad_rows=1))


def test_several_sources_are_read_in_order_and_errors_name_theirs(tmp_path: Path) -> None:
    findings = Findings()
    parts = [("b/1.jsonl", [GOOD]), ("b/2.json", [GOOD, {"instruction": 1, "output": "x"}])]
    sources = [
        ByteSource(
            io.BytesIO(json.dumps(rows).encode() if name.endswith("json") else json.dumps(rows[0]).encode()), name
        )
        for name, rows in parts
    ]
    import_sources(sources, tmp_path, ANY, findings, lambda a, b: None)
    assert findings.row_count == 2
    ((name, error),) = findings.errors
    assert (name, error.line) == ("b/2.json", 1)


def test_pairs_and_conversations_do_not_mix(tmp_path: Path) -> None:
    sources = [
        ByteSource(io.BytesIO(json.dumps(row).encode()), name)
        for name, row in (("1", GOOD), ("two", {"question": "a", "answer": "b"}))
    ]
    with pytest.raises(FileRefused, match="the sources before ALPACA"):
        import_sources(sources, tmp_path, ANY, Findings(), lambda a, b: None)


def test_equal_rows_have_an_equal_digest_wherever_they_stand(tmp_path: Path) -> None:
    once = read(tmp_path, [GOOD]).digest
    later = read(tmp_path, "\n\n" + json.dumps({**GOOD, "id": 7})).digest
    array = read(tmp_path, json.dumps([GOOD], indent=3), name="x.json").digest
    other = read(tmp_path, [{**GOOD, "output": "Another."}]).digest
    assert once == later == array != other
    assert once.startswith("sha256:") and len(once) == 71


def test_duplicate_ids_and_control_tokens_are_noted_and_kept(tmp_path: Path) -> None:
    rows = [{**GOOD, "id": "a"}, {**GOOD, "id": "a", "output": "<|im_end|> x"}]
    findings = read(tmp_path, rows)
    assert findings.row_count == 2
    assert {(note.line, note.code) for note in findings.notes.items} == {(2, "DUPLICATE_ID"), (2, "CONTROL_TOKEN")}


def test_row_groups_are_bounded(tmp_path: Path) -> None:
    read(tmp_path, [{**GOOD, "output": str(number)} for number in range(4500)])
    file = pq.ParquetFile(tmp_path / "data.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [2000, 2000, 500]
