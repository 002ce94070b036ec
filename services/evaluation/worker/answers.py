"""The node's cache of what models answered: the same model, prompt and sampling give the same numbers twice.

bf16 answers depend on the batch that they were computed in, so a second run may differ in the last digits, or in a word
where two tokens are almost equal. What was once computed is therefore kept, by digest of all that decides it.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

FORMAT = 1


def prompt_digest(token_ids: Sequence[int]) -> str:
    """Return the name of a prompt within a cache."""
    return hashlib.sha256(",".join(map(str, token_ids)).encode()).hexdigest()[:32]


class AnswerCache:
    """Answers of one model under one setting: a file of JSON lines that only grows.

    facts: all that decides an answer beside the prompt (digests of model and adapter, sampling, number type, engine).
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        text = json.dumps({"format": FORMAT, **facts}, sort_keys=True)
        self._path = folder / f"{hashlib.sha256(text.encode()).hexdigest()}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, Any] = {}
        if self._path.is_file():
            self._read()

    def _read(self) -> None:
        for line in self._path.read_bytes().splitlines():
            try:
                row = json.loads(line)
                self._known.setdefault(row["prompt"], row["answer"])  # the first answer is the one that counts
            except (ValueError, KeyError, TypeError):  # a worker was killed while it wrote this line
                continue

    def get(self, prompt: str) -> Any | None:
        """Return the answer to a prompt digest, or None."""
        return self._known.get(prompt)

    def put(self, answers: Iterable[tuple[str, Any]]) -> None:
        """Keep new answers. Another worker may write to the same file at the same time."""
        rows = [(prompt, answer) for prompt, answer in answers if prompt not in self._known]
        if not rows:
            return
        text = "".join(json.dumps({"prompt": p, "answer": a}, ensure_ascii=False) + "\n" for p, a in rows)
        with self._path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # A line that a killed worker left unfinished must not swallow this one.
            start = b"\n" if file.tell() and not self._path.read_bytes().endswith(b"\n") else b""
            file.write(start + text.encode())
            file.flush()
        self._known.update(rows)
