"""Scores multiple-choice questions by the log-probability of each label after the prompt.

One forward pass a question, logits of the last token only. What all questions of a subject have in common (header and
worked examples) is computed once, and its keys and values are shared by the batches; batches hold questions of like
length. An answer is the label with the highest log-probability, so none is ever unparsed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from services.chassis.errors import Invalid
from services.chassis.worker import chat
from services.evaluation.benchmarks import prompts
from services.evaluation.benchmarks.layouts import Question
from services.evaluation.benchmarks.presets import Preset

BATCH_TOKENS = 2048
"""Tokens of a batch, padding included, the shared prefix not."""
BATCH_CACHE_TOKENS = 16384
"""Tokens of keys and values of a batch, the prefix of each row included: bounds memory."""


class LabelError(Invalid):
    """The model's tokenizer writes a label as several tokens, so the benchmark cannot be scored this way."""

    default_reason = "UNSCORABLE_MODEL"


@dataclass(frozen=True)
class ChoicePrompt:
    """A question as tokens.

    shots: worked examples that fitted into the context; fewer than asked for are recorded with the sample.
    cut: the question alone was too long, and its beginning was left out.
    """

    question: Question
    token_ids: tuple[int, ...]
    shots: int
    cut: bool = False


def encode_raw(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a plain text, with those that the tokenizer puts around it; control tokens are text."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    try:
        return list(backend.encode(text, add_special_tokens=True).ids)
    finally:
        backend.encode_special_tokens = False


def label_ids(tokenizer: Any, preset: Preset) -> list[int]:
    """Return the token of each label right after a prompt. Raises: LabelError: it is not one of its own there."""
    tokens = []
    for label in preset.labels:
        if preset.style == "chat":
            messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": label}]
            ids, mask = chat.encode_chat(tokenizer, messages)
            answer = [token for token, learned in zip(ids, mask, strict=True) if learned]
            single = tokenizer.decode(answer[:1]).strip() == label
        else:
            stem = preset.question.rpartition("}")[2]
            prompt, whole = encode_raw(tokenizer, stem), encode_raw(tokenizer, stem + preset.delimiter + label)
            answer = whole[len(prompt) :]
            single = len(answer) == 1 and whole[: len(prompt)] == prompt
        if not single:
            raise LabelError(f"The label {label!r} is not one token of this model after {preset.title}'s prompt.")
        tokens.append(answer[0])
    if len(set(tokens)) != len(tokens):
        raise LabelError(f"This model writes two labels of {preset.title} with one token.")
    return tokens


def encode_question(
    tokenizer: Any, preset: Preset, title: str, examples: Sequence[Question], question: Question, room: int
) -> ChoicePrompt:
    """Encode with as many examples as fit into `room` tokens, dropped from the end as the authors of MMLU do."""
    for shots in range(len(examples), -1, -1):
        if preset.style == "chat":
            ids = chat.encode_prompt(tokenizer, prompts.chat_prompt(preset, title, examples[:shots], question))
        else:
            ids = encode_raw(tokenizer, prompts.raw_prompt(preset, title, examples[:shots], question))
        if len(ids) <= room:
            return ChoicePrompt(question, tuple(ids), shots)
    return ChoicePrompt(question, tuple(ids[-room:]), 0, cut=True)


def shared_prefix(prompts_of_group: Sequence[ChoicePrompt]) -> int:
    """Return how many tokens all prompts begin with; each keeps at least one of its own.

    Counted on the tokens themselves, so that a token that spans the seam of two texts is never split.
    """
    first = min(prompt.token_ids for prompt in prompts_of_group)
    last = max(prompt.token_ids for prompt in prompts_of_group)
    shortest = min(len(prompt.token_ids) for prompt in prompts_of_group) - 1
    for index in range(shortest):
        if first[index] != last[index]:
            return index
    return shortest


def plan_batches(lengths: Sequence[int], prefix: int) -> list[list[int]]:
    """Return the row numbers of each batch, longest rows first; `lengths` are their own tokens, without the prefix."""
    batches: list[list[int]] = []
    longest = rows = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        full = (rows + 1) * longest > BATCH_TOKENS or (rows + 1) * (longest + prefix) > BATCH_CACHE_TOKENS
        if not batches or full:
            batches.append([])
            longest, rows = lengths[row], 0
        batches[-1].append(row)
        rows += 1
    return batches


def score_choices(
    model: Any, asked: Sequence[ChoicePrompt], labels: Sequence[int], stopped: Callable[[], bool]
) -> Iterator[tuple[int, tuple[float, ...]]]:
    """Score the questions of one subject.

    Args:
        model: a causal model of transformers, an adapter already set or disabled.
        labels: token of each label.
        stopped: asked between batches; when it says so, no more are computed.
    Yields: (number of the question, log-probability of each label over the whole vocabulary, natural logarithm).
    """
    groups: dict[int, list[int]] = {}
    for number, prompt in enumerate(asked):
        groups.setdefault(prompt.shots, []).append(number)
    for numbers in groups.values():
        group = [asked[number] for number in numbers]
        prefix = shared_prefix(group)
        shared = _prefix_cache(model, group[0].token_ids[:prefix]) if prefix else None
        begin = prefix if shared else 0
        suffixes = [prompt.token_ids[begin:] for prompt in group]
        for batch in plan_batches([len(suffix) for suffix in suffixes], begin):
            if stopped():
                return
            values = _forward(model, [suffixes[row] for row in batch], labels, shared)
            yield from ((numbers[row], scores) for row, scores in zip(batch, values, strict=True))


Layers = list[tuple[torch.Tensor, torch.Tensor]]


@torch.inference_mode()
def _prefix_cache(model: Any, token_ids: Sequence[int]) -> Layers | None:
    """Return the prefix's keys and values, or None for a model whose cache is of another kind (sliding, recurrent)."""
    output = model(input_ids=_tensor(model, [list(token_ids)]), use_cache=True, logits_to_keep=1)
    layers = output.past_key_values.layers
    if any(type(layer) is not DynamicLayer for layer in layers):
        return None
    return [(layer.keys, layer.values) for layer in layers]


@torch.inference_mode()
def _forward(
    model: Any, suffixes: Sequence[Sequence[int]], labels: Sequence[int], shared: Layers | None
) -> list[tuple[float, ...]]:
    """Run one batch. Rows are padded on the right, where a causal model cannot see it, so that no mask is needed."""
    lengths = [len(suffix) for suffix in suffixes]
    rows = _tensor(model, [[*suffix, *([0] * (max(lengths) - len(suffix)))] for suffix in suffixes])
    ends = sorted({length - 1 for length in lengths})
    cache = None
    if shared:
        count = len(suffixes)
        expanded = [(k.expand(count, -1, -1, -1), v.expand(count, -1, -1, -1)) for k, v in shared]
        cache = DynamicCache(expanded)
    output = model(
        input_ids=rows,
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=torch.tensor(ends, device=rows.device),
    )
    places = torch.tensor([ends.index(length - 1) for length in lengths], device=rows.device)
    last = output.logits[torch.arange(len(suffixes), device=rows.device), places]
    values = last.float().log_softmax(-1)[:, torch.tensor(list(labels), device=rows.device)]
    return [tuple(row) for row in values.tolist()]


def _tensor(model: Any, rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.long, device=model.device)
