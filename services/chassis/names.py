"""What names, titles and metadata must be like, for every resource. Pure: domains import it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.chassis.errors import Invalid, Violation

NAME = r"[a-z0-9][a-z0-9._-]{0,62}"
TITLE_CHARACTERS = 200
PAIRS, PAIR_KEY_CHARACTERS, PAIR_VALUE_CHARACTERS = 16, 64, 512


def name_faults(name: str, field: str, prefixes: tuple[str, ...] = ()) -> Iterator[Violation]:
    """Yield what is wrong with a name: it is none of ours, or looks like an id that begins with one of the prefixes."""
    if not re.fullmatch(NAME, name):
        words = "is no name: 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
        yield Violation(field, f"{name!r} {words}", "INVALID_NAME")
    elif prefixes and name.startswith(prefixes):
        words = f"looks like an id: a name does not begin with {' or '.join(prefixes)}"
        yield Violation(field, f"{name!r} {words}", "INVALID_NAME")


def label_faults(title: str, metadata: Mapping[str, str], path: str) -> Iterator[Violation]:
    """Yield what is wrong with a title and metadata: too long, or too many; `path` ends with a dot."""
    if len(title) > TITLE_CHARACTERS:
        yield Violation(f"{path}title", f"The title has {len(title)} characters; at most {TITLE_CHARACTERS}")
    if len(metadata) > PAIRS:
        yield Violation(f"{path}metadata", f"There are {len(metadata)} metadata pairs; at most {PAIRS}")
    for key, value in metadata.items():
        if not 1 <= len(key) <= PAIR_KEY_CHARACTERS or len(value) > PAIR_VALUE_CHARACTERS:
            named = f"{path}metadata[{key[:PAIR_KEY_CHARACTERS]}]"
            limits = f"keys have 1 to {PAIR_KEY_CHARACTERS}, values up to {PAIR_VALUE_CHARACTERS} characters"
            yield Violation(named, f"{named} is too long: {limits}")


def check_name(name: str, field: str, prefixes: tuple[str, ...] = ()) -> None:
    """Refuse a name with a fault. Raises: Invalid."""
    _refuse(name_faults(name, field, prefixes))


def check_labels(title: str, metadata: Mapping[str, str], path: str) -> None:
    """Refuse a title or metadata with a fault. Raises: Invalid."""
    _refuse(label_faults(title, metadata, path))


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
        """Refuse a name or labels with a fault; `path` ends with a dot. Raises: Invalid."""
        check_name(self.name, f"{path}name", prefixes)
        check_labels(self.title, self.metadata, path)


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
        check_labels(self.title or "", self.metadata or {}, path)
        return {name: getattr(self, name) for name in ("title", "metadata") if getattr(self, name) is not None}


def _refuse(faults: Iterator[Violation]) -> None:
    violations = list(faults)
    if violations:
        raise Invalid.of(violations)
