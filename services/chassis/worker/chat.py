"""How a conversation becomes tokens: one definition for training, evaluation and serving.

A model learns to answer only what it is asked in the exact form that it was trained on. Rendering, encoding and the
fingerprint that proves two sides agree are therefore written once, here.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.chassis.worker.template_bounds import OutOfBounds, check_length, in_memory, in_time

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, Any]

# A template that writes today's date would make two days' fingerprints, and two workers' tokens, differ.
TEMPLATE_DATE = datetime(2026, 1, 1, tzinfo=UTC)
FINGERPRINT_FORMAT = 1
# Characters of a private plane stand in for control tokens that somebody typed; no tokenizer treats them specially.
_FIRST_MARK = 0xF0000


class Inexpressible(ValueError):
    """The chat template cannot express this conversation; the message says why."""


@dataclass(frozen=True)
class Encoded:
    """A conversation as tokens. ``label_mask[i]`` says whether token i is to be learned."""

    input_ids: list[int]
    label_mask: list[bool]


def load_tokenizer(path: str | Path) -> "PreTrainedTokenizerBase":
    """Load the fast tokenizer of a model folder.

    Raises: Inexpressible: there is no chat template, or no fast tokenizer.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
    if not tokenizer.is_fast:
        raise Inexpressible("the tokenizer has no tokenizer.json: Modelry needs a fast tokenizer")
    if not tokenizer.chat_template:
        raise Inexpressible("the tokenizer has no chat template: add chat_template.jinja to the model")
    return tokenizer


def render(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool,
) -> str:
    """Write a conversation in the model's own chat template.

    Raises: Inexpressible: the template refuses the conversation.
    """
    return _render(tokenizer, messages, tools, add_generation_prompt)[0]


def encode_prompt(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> list[int]:
    """Return the tokens after which the model is to answer. Control tokens inside a message are plain text."""
    conversation = _Conversation.shielded(tokenizer, messages, tools)
    return conversation.encode(conversation.render(len(messages), asking=True))[0]


def encode_chat(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[list[int], list[bool]]:
    """Encode a whole conversation as one row: (input_ids, label_mask); labels are the assistant's turns.

    Raises: Inexpressible: the template cannot express it, or not as one row (see ``encode_conversation``).
    """
    encoded = encode_conversation(tokenizer, messages, tools)
    if len(encoded) > 1:
        raise Inexpressible("the chat template rewrites earlier turns, so this conversation is not one row")
    return encoded[0].input_ids, encoded[0].label_mask


def encode_conversation(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> list[Encoded]:
    """Encode a conversation, as one row where the template allows it and as one row per assistant turn otherwise.

    The labels come from the template's generation marks where there are any. Otherwise each beginning of the
    conversation is rendered, and has to be a beginning of the whole, token by token.
    Raises: Inexpressible: the template cannot express it, or there is no assistant turn.
    """
    turns = [i for i, message in enumerate(messages) if message.get("role") == "assistant" and i > 0]
    if not turns:
        raise Inexpressible("there is no assistant message that answers something, so nothing to learn from")
    _check_expressible(tokenizer, messages, tools)
    conversation = _Conversation.shielded(tokenizer, messages, tools)
    if "{% generation" in _template(tokenizer) or "{%- generation" in _template(tokenizer):
        return [conversation.encode_by_marks()]
    whole = conversation.encode(conversation.render(len(messages)))[0]
    mask = [False] * len(whole)
    for turn in turns:
        span = conversation.turn_span(turn, whole)
        if span is None:
            return [conversation.encode_turn(turn) for turn in turns]
        mask[span[0] : span[1]] = [True] * (span[1] - span[0])
    return [Encoded(whole, mask)]


def canonical_conversations(tokenizer: "PreTrainedTokenizerBase") -> list[list[dict[str, str]]]:
    """Return the three conversations whose token ids prove that two tokenizers and templates agree."""
    system = {"role": "system", "content": "You are a helpful assistant. Answer briefly."}
    turns = [
        {"role": "user", "content": "What is 12 + 30?\nShow the sum."},
        {"role": "assistant", "content": "12 + 30 = 42"},
        {"role": "user", "content": "  def f(x):\n\treturn x ** 2  # naïve café, 你好，世界 🙂"},
    ]
    conversations = [[turns[0]], turns, [system, turns[2]]]
    try:
        render(tokenizer, conversations[2], add_generation_prompt=True)
    except Inexpressible:  # a template without system messages is still a good template
        conversations[2] = [turns[2]]
    return conversations


def fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return a digest of all that decides how a chat becomes tokens: template, special tokens, tokenizer, samples."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend.pop("truncation", None)  # both are left behind by earlier calls and decide nothing here
    backend.pop("padding", None)
    facts = {
        "format": FINGERPRINT_FORMAT,
        "template": _template(tokenizer),
        "arguments": {"date": TEMPLATE_DATE.date().isoformat()},
        "special_tokens": {k: str(v) for k, v in sorted(tokenizer.special_tokens_map.items())},
        "tokenizer": hashlib.sha256(json.dumps(backend, sort_keys=True).encode()).hexdigest(),
        "samples": [encode_prompt(tokenizer, m) for m in canonical_conversations(tokenizer)],
    }
    return "sha256:" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def describe_chat(tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    """Return what travels with a model: ``{fingerprint, samples: [{messages, token_ids}]}``.

    Raises: Inexpressible: its template refuses them all, or takes more time, memory or text than any should.
    """
    try:
        with in_memory():
            conversations = canonical_conversations(tokenizer)
            samples = [{"messages": m, "token_ids": encode_prompt(tokenizer, m)} for m in conversations]
            return {"fingerprint": fingerprint(tokenizer), "samples": samples}
    except OutOfBounds as error:
        raise Inexpressible(str(error)) from None


def _template(tokenizer: "PreTrainedTokenizerBase") -> str:
    return str(tokenizer.get_chat_template())


def _render(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None,
    add_generation_prompt: bool,
    generation_marks: bool = False,
) -> tuple[str, list[tuple[int, int]]]:
    """Render to (text, character spans between the template's generation marks)."""
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        with in_time():
            texts, spans = render_jinja_template(
                conversations=[[dict(m) for m in messages]],
                tools=list(tools) if tools else None,
                chat_template=tokenizer.get_chat_template(tools=list(tools) if tools else None),
                return_assistant_tokens_mask=generation_marks,
                add_generation_prompt=add_generation_prompt,
                **{**tokenizer.special_tokens_map, "strftime_now": TEMPLATE_DATE.strftime},
            )
        text = check_length(texts[0])
    except OutOfBounds as error:
        raise Inexpressible(str(error)) from None
    except (TemplateError, TypeError, KeyError, ValueError) as error:
        raise Inexpressible(f"the chat template refuses this conversation: {error}") from error
    return text, list(spans[0]) if generation_marks else []


def _check_expressible(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None
) -> None:
    """Refuse a conversation of which the template silently leaves something out."""
    text = _render(tokenizer, messages, tools, False)[0]
    if tools and text == _render(tokenizer, messages, None, False)[0]:
        raise Inexpressible("the chat template of this model ignores `tools`")
    for index, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, str):
            said = content.rsplit("</think>", 1)[-1].strip()  # templates may drop earlier thinking
            if said and said not in text:
                raise Inexpressible(f"the chat template leaves out the content of message {index + 1}")
        if message.get("tool_calls"):
            bare = [*messages[:index], {**message, "tool_calls": None}, *messages[index + 1 :]]
            if text == _render(tokenizer, bare, tools, False)[0]:
                raise Inexpressible("the chat template of this model ignores `tool_calls`")


def _control_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Return all texts that the tokenizer turns into one control token, longest first."""
    added = tokenizer.added_tokens_decoder.values()
    return sorted({str(token.content) for token in added if token.special}, key=lambda text: (-len(text), text))


@dataclass(frozen=True)
class _Conversation:
    """A conversation on its way to tokens, with stand-in characters for control tokens that somebody typed.

    Attributes:
        marks: stand-in -> typed text.
    """

    tokenizer: "PreTrainedTokenizerBase"
    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] | None
    marks: Mapping[str, str]

    @classmethod
    def shielded(
        cls,
        tokenizer: "PreTrainedTokenizerBase",
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None,
    ) -> "_Conversation":
        """Put the stand-ins into a conversation."""
        texts = "\n".join(m["content"] for m in messages if isinstance(m.get("content"), str))
        typed = [token for token in _control_tokens(tokenizer) if token in texts]
        free = (chr(code) for code in range(_FIRST_MARK, _FIRST_MARK + 0xFFFE) if chr(code) not in texts)
        marks = dict(zip(free, typed, strict=False)) if typed else {}
        shielded = [dict(m) for m in messages]
        for message in shielded:
            for mark, token in marks.items():
                if isinstance(message.get("content"), str):
                    message["content"] = message["content"].replace(token, mark)
        return cls(tokenizer, shielded, tools, marks)

    def render(self, count: int, *, asking: bool = False) -> str:
        """Render the first `count` messages; `asking`: up to where the model is to answer."""
        return _render(self.tokenizer, self.messages[:count], self.tools, asking)[0]

    def unshield(self, text: str) -> str:
        """Return the text as it was typed."""
        for mark, token in self.marks.items():
            text = text.replace(mark, token)
        return text

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Encode rendered text to (ids, character offsets in the text as typed)."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()  # an earlier call of the tokenizer may have left either behind
        backend.no_padding()
        if not any(mark in text for mark in self.marks):
            encoding = backend.encode(text, add_special_tokens=False)
            return encoding.ids, encoding.offsets
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        begin = 0
        pattern = "|".join(re.escape(token) for token in _control_tokens(self.tokenizer))
        for piece in re.split(f"({pattern})", text):
            typed = self.unshield(piece)
            backend.encode_special_tokens = typed != piece  # here alone a control token's text is only text
            try:
                encoding = backend.encode(typed, add_special_tokens=False)
            finally:
                backend.encode_special_tokens = False
            ids += encoding.ids
            offsets += [(begin + first, begin + last) for first, last in encoding.offsets]
            begin += len(typed)
        return ids, offsets

    def encode_by_marks(self) -> Encoded:
        """Encode with the labels that the template itself marks, and the stop token right after each."""
        text, spans = _render(self.tokenizer, self.messages, self.tools, False, generation_marks=True)
        ids, offsets = self.encode(text)
        mask = [False] * len(ids)
        for first, last in spans:
            begin, end = len(self.unshield(text[:first])), len(self.unshield(text[:last]))
            inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > begin]
            for i in inside:
                mask[i] = True
            after = inside[-1] + 1 if inside else len(ids)
            if after < len(ids) and ids[after] == self.tokenizer.eos_token_id:
                mask[after] = True
        return Encoded(ids, mask)

    def turn_span(self, turn: int, whole: list[int]) -> tuple[int, int] | None:
        """Find an assistant turn in the whole; None when its beginning is not a beginning of the whole."""
        prompt = self.encode(self.render(turn, asking=True))[0]
        upto = self.encode(self.render(turn + 1))[0]
        if whole[: len(prompt)] != prompt or whole[: len(upto)] != upto or len(upto) < len(prompt):
            return None
        return len(prompt), len(prompt) + self.answer_length(upto[len(prompt) :])

    def encode_turn(self, turn: int) -> Encoded:
        """Encode one turn as it will be asked for: the prompt's own tokens, then those of the answer."""
        prompt_text, text = self.render(turn, asking=True), self.render(turn + 1)
        if not text.startswith(prompt_text):
            raise Inexpressible(f"the chat template writes another prompt for message {turn + 1} than it trains on")
        prompt = self.encode(prompt_text)[0]
        answer = self.encode(text[len(prompt_text) :])[0]
        answer = answer[: self.answer_length(answer)]
        return Encoded(prompt + answer, [False] * len(prompt) + [True] * len(answer))

    def answer_length(self, span: list[int]) -> int:
        """Count the tokens of a turn that are learned: up to and with the last control token, if only blanks follow."""
        special = set(self.tokenizer.all_special_ids)
        last = max((i for i, token in enumerate(span) if token in special), default=len(span) - 1)
        return last + 1 if not str(self.tokenizer.decode(span[last + 1 :])).strip() else len(span)
