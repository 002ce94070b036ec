"""What is learned of a row: the answer and its stop token, whatever the padding token is."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from services.chassis.worker import Inexpressible
from services.training.worker.batching import by_tokens, collate, label_count
from services.training.worker.rows import Row, chosen_rows, count_rows, encode_row, encode_rows
from tests.tiny_model import build_tiny_tokenizer

pytestmark = pytest.mark.unit

QUESTION = {"role": "user", "content": "How do I reset my password?"}
ANSWER = {"role": "assistant", "content": "Open the settings."}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    return build_tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def learned(tokenizer, example) -> str:
    return tokenizer.decode([example.ids[place] for place in example.labels])


def test_the_answer_and_its_stop_token_are_learned_though_that_is_the_padding_token(tokenizer):
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    (example,) = encode_row(tokenizer, Row(1, [QUESTION, ANSWER], None), 256)
    assert learned(tokenizer, example) == "Open the settings.<|im_end|>"
    assert example.labels[-1] < len(example.ids) - 1  # the newline after the stop token is not learned


def test_every_answer_of_a_conversation_is_learned_and_no_question(tokenizer):
    more = [{"role": "user", "content": "And then?"}, {"role": "assistant", "content": "Choose security."}]
    (example,) = encode_row(tokenizer, Row(1, [QUESTION, ANSWER, *more], None), 256)
    assert learned(tokenizer, example) == "Open the settings.<|im_end|>Choose security.<|im_end|>"


def test_a_cut_ends_the_sequence_and_what_is_learned_of_it(tokenizer):
    (whole,) = encode_row(tokenizer, Row(1, [QUESTION, ANSWER], None), 256)
    cut = whole.labels[0] + 2
    (example,) = encode_row(tokenizer, Row(1, [QUESTION, ANSWER], None), cut)
    assert list(example.ids) == list(whole.ids[:cut])
    assert list(example.labels) == list(whole.labels[:2])
    with pytest.raises(Inexpressible, match="cut-off of 8 tokens"):
        encode_row(tokenizer, Row(1, [QUESTION, ANSWER], None), 8)


def test_refused_rows_are_named_by_set_and_line(tokenizer):
    rows = [("dsv-1", 1.0, Row(7, [QUESTION], None)), ("dsv-1", 2.0, Row(9, [QUESTION, ANSWER], None))]
    found = encode_rows(tokenizer, rows, 256)
    assert [one.weight for one in found.examples] == [2.0]
    assert found.refusal().startswith("dsv-1 line 7: ")


def test_a_batch_is_one_row_whose_logits_are_wanted_one_before_each_label(tokenizer):
    short = encode_row(tokenizer, Row(1, [QUESTION, ANSWER], None), 256)[0]
    long = encode_row(tokenizer, Row(2, [QUESTION, {**ANSWER, "content": "Call support. " * 5}], None), 256)[0]
    batch = collate([short, long])
    size = len(short.ids)
    assert batch.bounds == (0, size, size + len(long.ids))
    assert batch.tokens == batch.ids.shape[1]
    assert batch.positions[0, [0, size - 1, size]].tolist() == [0, size - 1, 0]
    assert batch.labels == label_count([short, long])
    assert batch.ids[0, batch.keep + 1].tolist() == batch.targets.tolist()
    assert not set(batch.keep.tolist()) & {size - 1, batch.tokens - 1}  # no sequence predicts the next one's begin


def test_groups_keep_the_order_and_the_bound(tokenizer):
    one = encode_row(tokenizer, Row(1, [QUESTION, ANSWER], None), 256)[0]
    groups = by_tokens([one] * 5, 2 * len(one.ids))
    assert [len(group) for group in groups] == [2, 2, 1]
    assert [len(group) for group in by_tokens([one] * 2, 3)] == [1, 1]


def test_rows_are_read_from_parquet_and_limited_in_the_seeded_order(tmp_path: Path):
    path = tmp_path / "data.parquet"
    rows = [json.dumps([{**QUESTION, "content": str(n)}, ANSWER]) for n in range(20)]
    tools = pa.array(['[{"type":"function"}]'] + [None] * 19, pa.string())
    parquet.write_table(pa.table({"line": list(range(1, 21)), "messages": rows, "tools": tools}), path)
    assert count_rows(path) == 20
    every = list(chosen_rows(path, 0, 1, "a"))
    assert [row.line for row in every] == list(range(1, 21))
    assert (every[0].tools, every[1].tools) == ([{"type": "function"}], None)
    some = [row.line for row in chosen_rows(path, 5, 1, "a")]
    assert len(some) == 5 and some == sorted(some)
    assert some == [row.line for row in chosen_rows(path, 5, 1, "a")]
