"""Stop-word lists: two presets shipped as text files, or the caller's own, named by their digest."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from services.evaluation.scoring.tokens import tokenize

PRESETS = ("en", "zh")
"""Names of the shipped lists."""

MAX_LIST_BYTES = 1_000_000
"""Largest uploaded list."""


@dataclass(frozen=True)
class StopWords:
    """Words that are taken out of hypothesis and reference before a metric counts.

    name: what the report shows, for example "en+zh"; "none" for the empty list.
    words: tokens, as `tokenize` gives them.
    """

    name: str
    words: frozenset[str]

    @property
    def digest(self) -> str:
        """First 8 hexadecimal digits of the sha256 of the sorted words; "none" when there are none."""
        if not self.words:
            return "none"
        return hashlib.sha256("\n".join(sorted(self.words)).encode()).hexdigest()[:8]

    def remove(self, tokens: tuple[str, ...]) -> tuple[str, ...]:
        """Return the tokens that are not stop words, in order."""
        return tuple(token for token in tokens if token not in self.words) if self.words else tokens


NO_STOPWORDS = StopWords("none", frozenset())


def parse_stopwords(name: str, text: str) -> StopWords:
    """Read a list: one entry a line, `#` starts a comment line, blank lines count for nothing.

    An entry that is no single token ("don't") takes out each of its tokens, since that is what the metric would see.

    Raises: ValueError: the text is larger than MAX_LIST_BYTES or holds no word.
    """
    if len(text.encode()) > MAX_LIST_BYTES:
        raise ValueError(f"a stop-word list may have at most {MAX_LIST_BYTES} bytes")
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    words = frozenset(token for line in lines if line and not line.startswith("#") for token in tokenize(line))
    if not words:
        raise ValueError("the stop-word list has no word: write one word a line")
    return StopWords(name, words)


@lru_cache(maxsize=len(PRESETS))
def preset_stopwords(name: str) -> StopWords:
    """Return a shipped list.

    Raises: KeyError: there is no preset of that name.
    """
    if name not in PRESETS:
        raise KeyError(f"no preset stop-word list {name!r}: there are {', '.join(PRESETS)}")
    text = resources.files("services.evaluation.scoring").joinpath(f"data/stopwords_{name}.txt").read_text("utf-8")
    return parse_stopwords(name, text)


def union(lists: Iterable[StopWords]) -> StopWords:
    """Return all words of several lists; the name joins theirs in the order of the alphabet."""
    chosen = sorted((one for one in lists if one.words), key=lambda one: one.name)
    if not chosen:
        return NO_STOPWORDS
    return StopWords("+".join(one.name for one in chosen), frozenset().union(*(one.words for one in chosen)))
