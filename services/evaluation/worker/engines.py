"""Targets on this machine, and which engine answers for which of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.chassis.engines import merged_name
from services.chassis.worker import merge
from services.evaluation.work_spec import Target
from services.evaluation.worker import models
from services.evaluation.worker.generation import Engine


@dataclass(frozen=True)
class Local:
    """A target whose files are on this machine. adapter_digest "" is the bare base."""

    target: Target
    base: Path
    base_digest: str
    adapter: Path | None
    adapter_digest: str


class Engines:
    """The engine of a base, started when the first answer is missing, and one of its own for each merged adapter."""

    def __init__(self, group: Sequence[Local], context: int, folder: Path, starting: Callable[[], None]) -> None:
        """`context`: most tokens of prompt and answer; `folder`: where merged models lie; `starting`: is told."""
        self.context = context
        self._folder, self._starting = folder, starting
        self._group = group
        self._engine: Engine | None = None
        self._key: str | None = None

    def of(self, local: Local) -> tuple[Engine, str | None]:
        """Return the engine that answers for a target, and the adapter to ask it for."""
        ranks = {one.adapter_digest: models.adapter_rank(one.adapter) for one in self._group if one.adapter}
        attached = not local.adapter or ranks[local.adapter_digest] is not None
        key = "attached" if attached else local.adapter_digest
        if self._engine is None or self._key != key:
            self.close()
            self._starting()
            self._engine, self._key = self._start(local, ranks, attached), key
        return self._engine, (local.adapter_digest or None) if attached else None

    def _start(self, local: Local, ranks: Mapping[str, int | None], attached: bool) -> Engine:
        if not attached:
            assert local.adapter is not None
            merged = self._folder / merged_name(local.base_digest, local.adapter_digest)
            merge(local.base, local.adapter, merged)
            return Engine(merged, {}, 0, self.context)
        adapters = {one.adapter_digest: one.adapter for one in self._group if one.adapter and ranks[one.adapter_digest]}
        largest = max((ranks[digest] or 0 for digest in adapters), default=0)
        return Engine(local.base, adapters, largest, self.context)

    def close(self) -> None:
        """End the running engine, if there is one."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
