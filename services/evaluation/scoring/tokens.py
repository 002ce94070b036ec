"""The one definition of a token for every text metric and every language.

Text is NFKC-normalised and lower-cased. Runs of Han characters are segmented by jieba; characters of other scripts
that write no spaces (kana, Thai, Lao, Khmer, Burmese) are a token each; everything else is cut into runs of letters,
digits and combining marks. On ASCII text this is what rouge-score does without its stemmer.
"""

import re
import threading
import unicodedata
import warnings
from functools import lru_cache
from importlib.metadata import version
from typing import Any

TOKENIZER_NAME = f"modelry-1+jieba-{version('jieba')}"
"""Part of every metric's name: another definition or another dictionary gives other numbers."""

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f々〇"
_UNSPACED = "\u3041-\u309f\u30a1-\u30ff\u31f0-\u31ff\u0e01-\u0e5b\u0e81-\u0edf\u1000-\u109f\u1780-\u17ff"


def _combining_marks() -> str:
    """Return the marks of the basic plane as a character class: `re` does not count them as word characters."""
    return "".join(re.escape(chr(c)) for c in range(0x300, 0xFFFF) if unicodedata.category(chr(c)) in ("Mn", "Mc"))


_PIECE = re.compile(f"(?P<han>[{_HAN}]+)|[{_UNSPACED}]|(?:(?![{_HAN}{_UNSPACED}_])[\\w{_combining_marks()}])+")
_ASCII_WORD = re.compile("[a-z0-9]+")
_jieba_lock = threading.Lock()


@lru_cache(maxsize=1)
def _segmenter() -> Any:
    """Return a segmenter of our own: shares no user words and writes no cache file into the system's temporary folder.

    Loaded with the first Chinese text, since it takes a second and 100 MB that most processes never need.
    """
    with warnings.catch_warnings():  # jieba asks for the deprecated pkg_resources, and does without where it is gone
        warnings.simplefilter("ignore")
        import jieba
    segmenter = jieba.Tokenizer()
    segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
    segmenter.initialized = True
    return segmenter


@lru_cache(maxsize=65536)
def _segment_run(run: str) -> tuple[str, ...]:
    with _jieba_lock:
        segmenter = _segmenter()
    return tuple(segmenter.cut(run))


def tokenize(text: str) -> tuple[str, ...]:
    """Cut a text into tokens, lower-cased.

    Args:
        text: any text; line ends and punctuation only separate.
    Returns: tokens in order; empty when the text has no letter and no digit.
    """
    if text.isascii():
        return tuple(_ASCII_WORD.findall(text.lower()))
    tokens: list[str] = []
    for match in _PIECE.finditer(unicodedata.normalize("NFKC", text).lower()):
        if match.lastgroup == "han":
            tokens.extend(_segment_run(match.group()))
        else:
            tokens.append(match.group())
    return tuple(tokens)
