"""What an attempt reads: the base, its tokenizer, the rows to learn from and to validate on."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.chassis.errors import Invalid
from services.chassis.objects import NodeCache, ObjectStore, StoreAccess
from services.chassis.worker import fingerprint, load_tokenizer
from services.training.work_spec import Source, StoredManifest, TrainingWork
from services.training.worker.order import split
from services.training.worker.rows import Examples, Row, chosen_rows, encode_rows

_log = logging.getLogger(__name__)
Weighted = tuple[str, float, Row]
OnBytes = Callable[[int, int], None]
OnProgress = Callable[[str, int, int, str], None]
LOGGED_ROWS = 200


@dataclass(frozen=True)
class Inputs:
    """All that was read. ``system_prompt`` is the one that most rows have, to be offered in the chat."""

    model: Path
    chat_fingerprint: str
    training: Examples
    validation: Examples
    system_prompt: str


class Files:
    """The node's copies of what lies in the store."""

    def __init__(self, spec: Mapping[str, Any], folder: Path) -> None:
        stores = {name: StoreAccess.from_json(access) for name, access in spec["stores"].items()}
        self.system = ObjectStore(stores["system"])
        self.output = ObjectStore(stores["output"])
        self._cache = Path(spec["cache_dir"])
        self._folder = folder

    def model(self, stored: StoredManifest, on_bytes: OnBytes) -> Path:
        """Return the folder of a model."""
        return _fetched(self._cache / "models", self.system, stored, on_bytes)

    def dataset(self, source: Source) -> Path:
        """Return the canonical file of a data set."""
        return _fetched(self._cache / "datasets", self.system, source) / source.file

    def checkpoint(self, stored: StoredManifest) -> Path:
        """Return the folder of a checkpoint to go on from."""
        return _fetched(self._folder / "resume", self.output, stored)


def _fetched(cache: Path, store: ObjectStore, stored: StoredManifest, on_bytes: OnBytes | None = None) -> Path:
    return NodeCache(cache).fetch(store, stored.bucket, stored.prefix, stored.manifest, on_bytes)


def read(work: TrainingWork, files: Files, on_progress: OnProgress) -> Inputs:
    """Fetch and encode everything.

    Raises: Invalid: no row is left to learn from. Inexpressible: the model has no usable chat template.
    """
    model = files.model(work.model, lambda done, total: on_progress("fetching the model", done, total, "bytes"))
    tokenizer = load_tokenizer(model)
    chat_fingerprint = fingerprint(tokenizer)
    if work.model.chat_fingerprint and work.model.chat_fingerprint != chat_fingerprint:
        _log.warning("the chat fingerprint is %s, recorded was %s", chat_fingerprint, work.model.chat_fingerprint)
    how = work.hyperparameters
    rows = [row for source in work.datasets for row in _rows(files, source, how.seed)]
    kept, held = split(len(rows), work.validation_ratio, how.seed)
    validation = [rows[number] for number in held]
    if work.validation:
        validation = list(_rows(files, work.validation, how.seed))
    total = len(kept) + len(validation)
    training = encode_rows(
        tokenizer,
        [rows[number] for number in kept],
        how.cutoff_length,
        lambda done: on_progress("encoding", done, total, "rows"),
    )
    validated = encode_rows(
        tokenizer, validation, how.cutoff_length, lambda done: on_progress("encoding", len(kept) + done, total, "rows")
    )
    _check("training", training)
    if validation:
        _check("validation", validated)
    return Inputs(model, chat_fingerprint, training, validated, common_system_prompt([row for _, _, row in rows]))


def _rows(files: Files, source: Source, seed: int) -> list[Weighted]:
    path = files.dataset(source)
    chosen = chosen_rows(path, source.max_samples, seed, source.version_id)
    return [(source.version_id, source.weight, row) for row in chosen]


def _check(name: str, found: Examples) -> None:
    """Name the refused rows in the log; without any other row, refuse the job."""
    for one in found.refused[:LOGGED_ROWS]:
        _log.warning("refused, not used for %s: %s", name, one)
    if len(found.refused) > LOGGED_ROWS:
        _log.warning("and %d more rows are refused", len(found.refused) - LOGGED_ROWS)
    if not found.examples:
        why = found.refusal() or "the data set has no rows"
        raise Invalid(f"No row is left for {name}: {why}.", reason="NO_USABLE_ROWS")


def common_system_prompt(rows: list[Row]) -> str:
    """Return the system prompt of most rows; empty when more have none."""
    counts = Counter(
        str(row.messages[0].get("content") or "") if row.messages and row.messages[0].get("role") == "system" else ""
        for row in rows
    )
    return counts.most_common(1)[0][0] if counts else ""


def settings_digest(work: TrainingWork) -> str:
    """Return a digest of all that decides which row is in which step, and what the weights are shaped like."""
    how = work.hyperparameters
    facts = {
        "model": work.model.version_id,
        "datasets": [
            [source.version_id, source.manifest.digest, source.max_samples, source.weight] for source in work.datasets
        ],
        "validation_ratio": work.validation_ratio,
        "world_size": how.world_size,
        "hyperparameters": {
            name: value
            for name, value in asdict(how).items()
            if name not in ("checkpoint_interval", "checkpoints_kept", "logging_interval", "world_size")
        },
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
