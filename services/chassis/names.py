"""What names, titles and metadata must be like, for every resource. Pure: domains import it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from services.chassis.errors import Invalid, Violation

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_TITLE_CHARACTERS = 200
_PAIRS, _KEY_CHARACTERS, _VALUE_CHARACTERS = 16, 64, 512


def name_faults(name: str, field: str, prefixes: tuple[str, ...] = ()) -> Iterator[Violation]:
    """What is wrong with a name: it is none of ours, or looks like an id that begins with one of the prefixes."""
    if not _NAME.fullmatch(name):
        words = "is no name: 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
        yield Violation(field, f"{name!r} {words}", "INVALID_NAME")
    elif prefixes and name.startswith(prefixes):
        words = f"looks like an id: a name does not begin with {' or '.join(prefixes)}"
        yield Violation(field, f"{name!r} {words}", "INVALID_NAME")


def label_faults(title: str, metadata: Mapping[str, str], path: str) -> Iterator[Violation]:
    """What is wrong with a title and metadata: too long, or too many; `path` ends with a dot."""
    if len(title) > _TITLE_CHARACTERS:
        yield Violation(f"{path}title", f"The title has {len(title)} characters; at most {_TITLE_CHARACTERS}")
    if len(metadata) > _PAIRS:
        yield Violation(f"{path}metadata", f"There are {len(metadata)} metadata pairs; at most {_PAIRS}")
    for key, value in metadata.items():
        if not 1 <= len(key) <= _KEY_CHARACTERS or len(value) > _VALUE_CHARACTERS:
            named = f"{path}metadata[{key[:_KEY_CHARACTERS]}]"
            limits = f"keys have 1 to {_KEY_CHARACTERS}, values up to {_VALUE_CHARACTERS} characters"
            yield Violation(named, f"{named} is too long: {limits}")


def check_name(name: str, field: str, prefixes: tuple[str, ...] = ()) -> None:
    """Refuse a name with a fault. Raises: Invalid."""
    _refuse(name_faults(name, field, prefixes))


def check_labels(title: str, metadata: Mapping[str, str], path: str) -> None:
    """Refuse a title or metadata with a fault. Raises: Invalid."""
    _refuse(label_faults(title, metadata, path))


def _refuse(faults: Iterator[Violation]) -> None:
    found = list(faults)
    if found:
        raise Invalid.of(found)
