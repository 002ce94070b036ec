"""Writes the prompt of a multiple-choice question as a preset defines it."""

from collections.abc import Sequence

from services.evaluation.benchmarks.layouts import Question
from services.evaluation.benchmarks.presets import Preset

Message = dict[str, str]


def ask(preset: Preset, question: Question) -> str:
    """Return the question with its choices, up to where the label belongs."""
    cells = dict(zip(preset.labels, question.choices, strict=True))
    text = preset.question
    # One pass from the left: a question that itself says "{A}" is text, not a place for a choice.
    parts = []
    while "{" in text:
        before, _, rest = text.partition("{")
        key, _, text = rest.partition("}")
        parts += [before, question.question if key == "question" else cells[key]]
    return "".join([*parts, text])


def raw_prompt(preset: Preset, subject: str, examples: Sequence[Question], question: Question) -> str:
    """Return the whole prompt as one text: header with the subject's title, examples with their labels, question."""
    solved = [ask(preset, example) + preset.delimiter + example.answer for example in examples]
    texts = [*solved, ask(preset, question)]
    return preset.header.replace("{subject}", subject) + preset.separator.join(texts)


def chat_prompt(preset: Preset, subject: str, examples: Sequence[Question], question: Question) -> list[Message]:
    """Return the prompt as messages for a chat template: examples in one message, or as turns."""
    if preset.few_shot == "text":
        return [{"role": "user", "content": raw_prompt(preset, subject, examples, question)}]
    messages: list[Message] = []
    for example in examples:
        messages.append({"role": "user", "content": ask(preset, example)})
        messages.append({"role": "assistant", "content": example.answer})
    messages.append({"role": "user", "content": ask(preset, question)})
    messages[0]["content"] = preset.header.replace("{subject}", subject) + messages[0]["content"]
    return messages
