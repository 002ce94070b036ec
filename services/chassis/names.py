"""What names and metadata must be like, for every resource. Pure: domains import it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.chassis.errors import Invalid, Violation

NAME = r"[a-z0-9][a-z0-9._-]{0,62}"
PAIRS = 16


def name_faults(name: str, field: str, prefixes: tuple[str, ...] = ()) -> Iterator[Violation]:
    """Yield what is wrong with a name: it is none of ours, or looks like an id that begins with one of the prefixes."""
    if not re.fullmatch(NAME, name):
        words = "is no name: 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
        yield Violation(field, f"{name!r} {words}", "INVALID_NAME")
    elif prefixes and name.startswith(prefixes):
        words = f"looks like an id: a name does not begin with {' or '.join(prefixes)}"
        yield Violation(field, f"{name!r} {words}", "INVALID_NAME")


def metadata_faults(metadata: Mapping[str, str], path: str) -> Iterator[Violation]:
    """Yield what is wrong with metadata: too many pairs, or a key of nothing; `path` ends with a dot.

    The protos say how long its texts and a title may be, and every call is checked by them.
    """
    if len(metadata) > PAIRS:
        yield Violation(f"{path}metadata", f"There are {len(metadata)} metadata pairs; at most {PAIRS}")
    if "" in metadata:
        yield Violation(f"{path}metadata", f"{path}metadata has an empty key")


def check_name(name: str, field: str, prefixes: tuple[str, ...] = ()) -> None:
    """Refuse a name with a fault. Raises: Invalid."""
    _refuse(name_faults(name, field, prefixes))


def check_metadata(metadata: Mapping[str, str], path: str) -> None:
    """Refuse metadata with a fault. Raises: Invalid."""
    _refuse(metadata_faults(metadata, path))


@dataclass(frozen=True)
class CreateNamed:
    """A request for a resource with a name and labels. `digest` is that of the request, which `request_id` repeats."""

    project: str
    name: str
    title: str
    metadata: Mapping[str, str]
    request_id: str
    digest: str

    def check(self, path: str, prefixes: tuple[str, ...]) -> None:
        """Refuse a name or metadata with a fault; `path` ends with a dot. Raises: Invalid."""
        check_name(self.name, f"{path}name", prefixes)
        check_metadata(self.metadata, path)


@dataclass(frozen=True)
class UpdateLabels:
    """A request for another title or other metadata of a resource; None leaves them."""

    project: str
    ref: str
    title: str | None = None
    metadata: Mapping[str, str] | None = None
    etag: str = ""

    def changes(self, path: str) -> dict[str, Any]:
        """Return the new values, to replace those of the resource; `path` ends with a dot. Raises: Invalid."""
        check_metadata(self.metadata or {}, path)
        return {name: getattr(self, name) for name in ("title", "metadata") if getattr(self, name) is not None}


def _refuse(faults: Iterator[Violation]) -> None:
    violations = list(faults)
    if violations:
        raise Invalid.of(violations)
