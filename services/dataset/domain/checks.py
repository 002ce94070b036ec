"""What names, labels, files and references must be like."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.chassis.errors import Invalid, OverLimit, Violation, WrongState

PURPOSES = ("fine-tune", "batch", "evals", "user_data")
MAX_FILE_BYTES = 1 << 30

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_DIGITS = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Reference:
    """A data set reference, taken apart: a version's id, or a data set with a number or its newest published."""

    version_id: str = ""
    dataset: str = ""
    number: int | None = None

    @classmethod
    def parse(cls, text: str, field_name: str) -> Reference:
        """`NAME`, `NAME@N`, `NAME@latest` or `dsv-…`.

        Raises: Invalid.
        """
        if text.startswith("dsv-"):
            return cls(version_id=text)
        name, at, number = text.partition("@")
        if not name or (at and number != "latest" and not _DIGITS.fullmatch(number)):
            raise Invalid(f"{text!r} is no data set reference: write NAME, NAME@N or dsv-…", field=field_name)
        return cls(dataset=name, number=int(number) if at and number != "latest" else None)


def version_key(text: str, field_name: str) -> str | int | None:
    """What a path names a version by: its id, its number, or None for `latest`.

    Raises: Invalid.
    """
    if text == "latest":
        return None
    if text.startswith("dsv-"):
        return text
    if _DIGITS.fullmatch(text):
        return int(text)
    raise Invalid(f"{text!r} is no version: write its number, its id (dsv-…) or latest", field=field_name)


def check_name(name: str, field_name: str) -> None:
    """Raises: Invalid: it is no name of ours, or looks like an id."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} is no name: 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
            field=field_name,
        )
    if name.startswith(("ds-", "dsv-")):
        raise Invalid(f"{name!r} looks like an id: a name does not begin with ds- or dsv-", field=field_name)


def check_labels(title: str, metadata: Mapping[str, str], path: str) -> None:
    """Raises: Invalid: title or metadata are too long or too many."""
    if len(title) > 200:
        raise Invalid(f"the title has {len(title)} characters; at most 200", field=f"{path}title")
    if len(metadata) > 16:
        raise Invalid(f"{len(metadata)} metadata pairs; at most 16", field=f"{path}metadata")
    for key, value in metadata.items():
        if not 1 <= len(key) <= 64 or len(value) > 512:
            raise Invalid(
                f"metadata {key[:64]!r}: keys have 1 to 64, values up to 512 characters", field=f"{path}metadata"
            )


def check_file(filename: str, purpose: str) -> None:
    """Raises: Invalid: what a file is called or is for cannot be accepted."""
    violations = []
    if not 1 <= len(filename) <= 255 or "/" in filename or "\0" in filename:
        violations.append(Violation("filename", "a file name has 1 to 255 characters and no '/'"))
    if purpose not in PURPOSES:
        violations.append(Violation("purpose", f"{purpose!r} is no purpose: one of {', '.join(PURPOSES)}"))
    if violations:
        raise Invalid("; ".join(violation.message for violation in violations), violations=violations)


def check_size(size_bytes: int) -> None:
    """Raises: OverLimit: the file is larger than what may be uploaded."""
    if size_bytes > MAX_FILE_BYTES:
        raise OverLimit(
            f"the file is larger than {MAX_FILE_BYTES} bytes: put it into a bucket and import it from there",
            reason="FILE_TOO_LARGE",
        )


def refuse_held(kind: str, ref: str, holders: Iterable[str]) -> None:
    """Raises: WrongState: something holds it; names the holders."""
    names = sorted(set(holders))
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise WrongState(
            f"The {kind} {ref!r} cannot be deleted: it is used by {shown}.",
            reason="IN_USE",
            metadata={"holders": ",".join(names[:20])},
        )
