"""What a preset benchmark is: everything that decides its number, under one digest.

" A" and "A" are different benchmarks, and so are another order of examples, another split, chat or raw: a preset fixes
them all, and a report shows the digest beside the score.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

Layout = Literal["mmlu", "cmmlu", "ceval"]
Style = Literal["raw", "chat"]
FewShot = Literal["text", "turns"]
MAX_SHOTS = 25
DIGEST_FORMAT = 1


@dataclass(frozen=True)
class Preset:
    """A benchmark's definition.

    license: of its data, as the API shows it.
    layout: how its files are laid out; decides the reader and the table of categories.
    splits: splits that have published answers; `split` is the one scored.
    shots: worked examples before each question, taken from `dev` in the order of the file.
    style: "raw" continues a plain text; "chat" asks through the base model's chat template.
    few_shot: with "chat", examples as one text in one message or as turns of a conversation.
    delimiter: between prompt and label when raw; a chat template separates by itself, so it is dropped there.
    labels: what the answer may be; each must be one token of the model.
    header, question, separator: the text of the prompt; {subject} is the title, {question} {A} {B} {C} {D} the row.
    average: how `Average` is made: every question counts the same. The mean over subjects stands beside it.
    """

    name: str
    title: str
    license: str
    layout: Layout
    language: str
    splits: tuple[str, ...]
    split: str
    shots: int
    header: str
    question: str
    separator: str = "\n\n"
    delimiter: str = " "
    labels: tuple[str, ...] = ("A", "B", "C", "D")
    style: Style = "raw"
    few_shot: FewShot = "text"
    order: str = "file"
    average: str = "micro"

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over all that decides the prompt, the labels and the average."""
        facts = {key: value for key, value in asdict(self).items() if key not in ("name", "title", "license", "splits")}
        text = json.dumps({"format": DIGEST_FORMAT, **facts}, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


MMLU = Preset(
    name="mmlu",
    title="MMLU",
    license="MIT",
    layout="mmlu",
    language="en",
    splits=("test", "val", "dev"),
    split="test",
    shots=5,
    header="The following are multiple choice questions (with answers) about {subject}.\n\n",
    question="{question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\nAnswer:",
)
CMMLU = Preset(
    name="cmmlu",
    title="CMMLU",
    license="CC BY-NC-SA 4.0",
    layout="cmmlu",
    language="zh",
    splits=("test", "dev"),
    split="test",
    shots=5,
    header="以下是关于{subject}的单项选择题，请直接给出正确答案的选项。\n\n",
    question="题目：{question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\n答案是：",
    delimiter="",
)
CEVAL = Preset(
    name="ceval",
    title="C-Eval",
    license="CC BY-NC-SA 4.0",
    layout="ceval",
    language="zh",
    splits=("val", "dev"),
    split="val",
    shots=5,
    header="以下是中国关于{subject}考试的单项选择题，请选出其中的正确答案。\n\n",
    question="{question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\n答案：",
    delimiter="",
)
PRESETS = MappingProxyType({preset.name: preset for preset in (MMLU, CMMLU, CEVAL)})


class PresetError(ValueError):
    """A choice that a preset does not offer; `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def preset(name: str, *, split: str = "", shots: int | None = None, style: str = "", few_shot: str = "") -> Preset:
    """Return a preset with a caller's choices; each one left out keeps the preset's own.

    Raises: PresetError: no such preset, or it does not offer the split, the number of shots, the style.
    """
    default = PRESETS.get(name)
    if default is None:
        raise PresetError("preset", f"there is no preset benchmark {name!r}: choose one of {', '.join(PRESETS)}")
    if split and split not in default.splits:
        why = "its answers were never published" if name == "ceval" and split == "test" else "there is no such split"
        raise PresetError(
            "split", f"{default.title} cannot be scored on {split!r} ({why}): choose {' or '.join(default.splits)}"
        )
    if shots is not None and not 0 <= shots <= MAX_SHOTS:
        raise PresetError("shots", f"shots must be from 0 to {MAX_SHOTS}")
    if split == "dev" and (default.shots if shots is None else shots):
        raise PresetError("split", "the examples come from dev: scoring dev needs shots 0")
    if style not in ("", "raw", "chat"):
        raise PresetError("style", f"style {style!r} is unknown: choose raw or chat")
    if few_shot not in ("", "text", "turns"):
        raise PresetError("few_shot", f"few_shot {few_shot!r} is unknown: choose text or turns")
    given: dict[str, Any] = {"split": split, "shots": shots, "style": style, "few_shot": few_shot}
    chosen = replace(default, **{name: value for name, value in given.items() if value not in ("", None)})
    if few_shot == "turns" and chosen.style == "raw":
        raise PresetError("few_shot", "examples as turns need style chat")
    return chosen
