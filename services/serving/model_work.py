"""What serving's one-shot programs are told: one contract, for the service that writes it and the program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from services.chassis.errors import Invalid

FORMAT = 1
MODULE = "services.serving.worker"


class WorkKind(StrEnum):
    """What is done with a model."""

    MERGE = "merge"
    """An adapter is merged into its base: the output is a model's folder."""
    DESCRIBE = "describe"
    """How its chats become tokens is written: the output is a JSON file."""


@dataclass(frozen=True)
class ModelWork:
    """One order. The output is there, whole, when it has succeeded; one that is there already is success.

    `adapter_path` is None where there is nothing to merge.
    """

    kind: WorkKind
    model_path: Path
    output_path: Path
    adapter_path: Path | None = None
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Return the spec."""
        return dict(_SPEC.dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ModelWork:
        """Return the order that `to_json` wrote. Raises: Invalid: it is of another format."""
        if content.get("format") != FORMAT:
            raise Invalid(f"The spec has format {content.get('format')}; this program reads {FORMAT}.", field="format")
        return _SPEC.validate_python(content)


_SPEC = TypeAdapter(ModelWork)
