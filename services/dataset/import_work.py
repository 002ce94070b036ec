"""What the import program is told and what it says: one contract, for the importer and the program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from services.chassis.errors import Invalid
from services.chassis.objects import StoreAccess
from services.dataset.object_sources import ObjectSource
from services.dataset.reading.problems import RowError

FORMAT = 2
"""Format 1 came by stdin with the folder inside; a program of it ended with its service, so that nobody reads one."""

MODULE = "services.dataset.worker"
CRASHED = "IMPORT_CRASHED"
"""The reason of a program that ended by a surprise: it is tried again a few times."""


@dataclass(frozen=True)
class ImportWork:
    """One attempt to import: the source, how it is read, and where the canonical rows go.

    `format` is the name of the source's format, empty to find out.
    """

    source: ObjectSource
    format: str
    columns: Mapping[str, str]
    max_bad_rows: int
    output: StoreAccess
    bucket: str
    prefix: str

    def to_json(self) -> dict[str, Any]:
        """Return the spec, with the secrets of stores: for a 0600 file only."""
        place = self.source
        return {
            "format": FORMAT,
            "source": {
                "access": place.access.to_json(),
                "bucket": place.bucket,
                "prefix": place.prefix,
                "name": place.name,
            },
            "options": {"format": self.format, "columns": dict(self.columns), "max_bad_rows": self.max_bad_rows},
            "output": {"access": self.output.to_json(), "bucket": self.bucket, "prefix": self.prefix},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ImportWork:
        """Return the order that `to_json` wrote. Raises: Invalid: it is of another format."""
        if content.get("format") != FORMAT:
            raise Invalid(f"The spec has format {content.get('format')}; this program reads {FORMAT}.", field="format")
        source, options, output = content["source"], content["options"], content["output"]
        return cls(
            source=ObjectSource(
                StoreAccess.from_json(source["access"]), source["bucket"], source["prefix"], source.get("name", "")
            ),
            format=options["format"],
            columns=options["columns"],
            max_bad_rows=options["max_bad_rows"],
            output=StoreAccess.from_json(output["access"]),
            bucket=output["bucket"],
            prefix=output["prefix"],
        )


@dataclass(frozen=True)
class ImportCounts:
    """How far an import is. It is the program's progress, and part of how it ended; named as in `Work`."""

    row_count: int = 0
    bad_row_count: int = 0
    bytes_read: int = 0
    bytes_total: int = 0


@dataclass(frozen=True)
class ImportReport:
    """What a program found out, also one that refused the data.

    Attributes:
        errors: the first refused rows, each with the name of its source.
        format, digest, identity, manifest, notes: of a finished import alone; notes are hints for people.
    """

    counts: ImportCounts
    statistics: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[tuple[str, RowError], ...] = ()
    format: str = ""
    digest: str = ""
    identity: Mapping[str, str] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the result of the program."""
        errors = [[name, error.line, error.field, error.code, error.message] for name, error in self.errors]
        return {**vars(self), "counts": asdict(self.counts), "errors": errors, "notes": list(self.notes)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ImportReport:
        """Return the result that `to_json` wrote."""
        counts = ImportCounts(**content["counts"])
        errors = tuple((name, RowError(*error)) for name, *error in content["errors"])
        return cls(**{**content, "counts": counts, "errors": errors, "notes": tuple(content["notes"])})
