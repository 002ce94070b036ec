"""Paths that are not derived from the protos, and what a path that is none of ours probably means."""

import re
from collections.abc import Iterator

INFERENCE = ("/v1/chat/completions", "/v1/completions")
OTHERS = frozenset({*INFERENCE, "/v1/models", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"})
LONGEST = 200
"""Nobody means a path that is longer, and looking at it costs more the longer it is."""
_BASES = re.compile(r"^(/api/v1|/v1)+(?=/)")
_TWICE = re.compile(r"(/.+?)\1$")


def guesses(path: str) -> Iterator[str]:
    """Yield what a path may mean: without slashes too many, and with one base where it has none, two or another."""
    if len(path) > LONGEST:
        return
    squeezed = re.sub("/{2,}", "/", path).rstrip("/")
    rest = _TWICE.sub(r"\1", _BASES.sub("", squeezed))
    bases = ("/api/v1", "/v1", "") if squeezed.startswith("/api/") else ("/v1", "/api/v1", "")
    yield from (guess for guess in (squeezed, *(base + rest for base in bases)) if guess != path)
