"""How conversations become tokens and labels."""

import pytest

from services.chassis.worker import chat, template_bounds
from tests.tiny_model import build_tiny_tokenizer

pytestmark = pytest.mark.unit

TURNS = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Good morning."},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Call support."},
]
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Earlier answers are shortened, as templates do that drop earlier thinking.
FORGETFUL = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and not loop.last %}{{ m['content'].split('</think>')[-1] }}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def tokenizer(tmp_path):
    build_tiny_tokenizer(tmp_path)
    return chat.load_tokenizer(tmp_path)


def _learned(tokenizer, encoded):
    return [tokenizer.decode([i]) for i, learned in zip(encoded.input_ids, encoded.label_mask, strict=True) if learned]


def test_labels_are_the_answers_with_their_stop_token_and_without_the_newline(tokenizer):
    (encoded,) = chat.encode_conversation(tokenizer, TURNS)
    assert "".join(_learned(tokenizer, encoded)) == "Good morning.<|im_end|>Call support.<|im_end|>"
    assert encoded.input_ids == tokenizer.apply_chat_template(TURNS)["input_ids"]


def test_generation_marks_give_the_same_labels(tokenizer):
    (by_prefix,) = chat.encode_conversation(tokenizer, TURNS)
    tokenizer.chat_template = MARKED
    (by_marks,) = chat.encode_conversation(tokenizer, TURNS)
    assert by_marks == by_prefix


def test_a_template_that_rewrites_earlier_turns_gives_one_row_per_answer(tokenizer):
    tokenizer.chat_template = FORGETFUL
    turns = [TURNS[0], {"role": "assistant", "content": "<think>hm</think>Yes."}, *TURNS[2:]]
    first, second = chat.encode_conversation(tokenizer, turns)
    assert "".join(_learned(tokenizer, first)) == "<think>hm</think>Yes.<|im_end|>"
    assert "".join(_learned(tokenizer, second)) == "Call support.<|im_end|>"
    with pytest.raises(chat.Inexpressible, match="not one row"):
        chat.encode_chat(tokenizer, turns)


def test_control_tokens_in_a_message_are_text(tokenizer):
    turns = [{"role": "user", "content": "a<|im_end|>b"}, {"role": "assistant", "content": "c<|im_start|>d"}]
    ids, mask = chat.encode_chat(tokenizer, turns)
    stop, start = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"])
    assert ids.count(stop) == 2
    assert ids.count(start) == 2
    assert (
        tokenizer.decode(ids)
        == "<|im_start|>user\na<|im_end|>b<|im_end|>\n<|im_start|>assistant\nc<|im_start|>d<|im_end|>\n"
    )
    assert sum(mask) == len(tokenizer("c<|im_start|>d", split_special_tokens=True).input_ids) + 1


def test_a_prompt_is_the_beginning_of_what_is_trained(tokenizer):
    ids, mask = chat.encode_chat(tokenizer, TURNS[:2])
    prompt = chat.encode_prompt(tokenizer, TURNS[:1])
    assert ids[: len(prompt)] == prompt
    assert mask.index(True) == len(prompt)


@pytest.mark.parametrize(
    ("messages", "tools", "why"),
    [
        (TURNS[:1], None, "nothing to learn"),
        (TURNS, [{"type": "function", "function": {"name": "f", "parameters": {}}}], "ignores `tools`"),
        ([{"role": "user"}, TURNS[1]], None, "refuses"),
    ],
)
def test_what_the_template_cannot_express_is_refused(tokenizer, messages, tools, why):
    with pytest.raises(chat.Inexpressible, match=why):
        chat.encode_conversation(tokenizer, messages, tools)


def test_the_fingerprint_says_what_decides_the_tokens_and_nothing_else(tokenizer, tmp_path):
    known = chat.fingerprint(tokenizer)
    tokenizer("a long sentence", truncation=True, max_length=2, padding="max_length")
    assert chat.fingerprint(tokenizer) == known
    assert chat.fingerprint(chat.load_tokenizer(tmp_path)) == known
    tokenizer.chat_template = tokenizer.chat_template.replace("\n", " ")
    assert chat.fingerprint(tokenizer) != known


def test_a_template_with_a_date_gives_the_same_tokens_every_day(tokenizer):
    tokenizer.chat_template = "{{ strftime_now('%Y-%m-%d') }}" + tokenizer.chat_template
    assert chat.render(tokenizer, TURNS[:1], add_generation_prompt=True).startswith("2026-01-01<|im_start|>")


def test_canonical_samples_are_what_transformers_encodes(tokenizer):
    described = chat.describe_chat(tokenizer)
    assert len(described["samples"]) == 3
    for sample in described["samples"]:
        theirs = tokenizer.apply_chat_template(sample["messages"], add_generation_prompt=True)["input_ids"]
        assert sample["token_ids"] == theirs


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}x", "takes longer than 3 s"),
        ("{{ 'x' * 20000 }}", "writes 20,000 characters"),
        ("{{ ('x' * 4000000000) | length }}", "fills more than 1024 MiB"),
    ],
)
def test_a_template_that_takes_too_much_is_refused_in_words(tokenizer, monkeypatch, template, what):
    monkeypatch.setattr(template_bounds, "RENDER_SECONDS", 3.0)
    monkeypatch.setattr(template_bounds, "MOST_CHARACTERS", 10_000)
    tokenizer.chat_template = template
    with pytest.raises(chat.Inexpressible, match=what):
        chat.describe_chat(tokenizer)
    tokenizer.chat_template = MARKED
    assert chat.describe_chat(tokenizer)["samples"]
