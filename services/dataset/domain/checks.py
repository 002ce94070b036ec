"""What names, labels, files and references must be like."""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.chassis.errors import Invalid, TooLarge, Violation

PURPOSES = ("fine-tune", "batch", "evals", "user_data")
MAX_FILE_BYTES = 1 << 30
ID_PREFIXES = ("ds-", "dsv-")
"""Names do not begin like the ids of data sets and versions."""

_DIGITS = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Reference:
    """A data set reference, taken apart: a version's id, or a data set with a number or its newest published."""

    version_id: str = ""
    dataset: str = ""
    number: int | None = None

    @classmethod
    def parse(cls, text: str, field_name: str) -> Reference:
        """Parse `NAME`, `NAME@N`, `NAME@latest` or `dsv-…`. Raises: Invalid."""
        if text.startswith("dsv-"):
            return cls(version_id=text)
        name, at, number = text.partition("@")
        if not name or (at and number != "latest" and not _DIGITS.fullmatch(number)):
            raise Invalid(f"{text!r} is no data set reference: write NAME, NAME@N or dsv-…", field=field_name)
        return cls(dataset=name, number=int(number) if at and number != "latest" else None)


def version_key(text: str, field_name: str) -> str | int | None:
    """Return what a path names a version by: its id, its number, or None for `latest`. Raises: Invalid."""
    if text == "latest":
        return None
    if text.startswith("dsv-"):
        return text
    if _DIGITS.fullmatch(text):
        return int(text)
    raise Invalid(f"{text!r} is no version: write its number, its id (dsv-…) or latest.", field=field_name)


def check_file(filename: str, purpose: str) -> None:
    """Check the name and the purpose of a file. Raises: Invalid."""
    violations = []
    if not filename or "/" in filename:
        violations.append(Violation("filename", "A file name is not empty and has no '/'"))
    if purpose not in PURPOSES:
        violations.append(Violation("purpose", f"{purpose!r} is no purpose: one of {', '.join(PURPOSES)}"))
    if violations:
        raise Invalid.of(violations)


def check_size(size_bytes: int) -> None:
    """Check the size of a file against the largest upload. Raises: TooLarge."""
    if size_bytes > MAX_FILE_BYTES:
        raise TooLarge.over(MAX_FILE_BYTES, "Put the file into a bucket and import it from there.")
