"""What names, titles and metadata must be like, for every resource."""

from __future__ import annotations

import re
from collections.abc import Mapping

from services.chassis.errors import Invalid

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def check_name(name: str, field: str, prefixes: tuple[str, ...] = ()) -> None:
    """Refuse what is no name of ours, or looks like an id that begins with one of the prefixes. Raises: Invalid."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} is no name: 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit.",
            field=field,
        )
    if prefixes and name.startswith(prefixes):
        raise Invalid(f"{name!r} looks like an id: a name does not begin with {' or '.join(prefixes)}.", field=field)


def check_labels(title: str, metadata: Mapping[str, str], path: str) -> None:
    """Refuse a title or metadata that are too long or too many; `path` ends with a dot. Raises: Invalid."""
    if len(title) > 200:
        raise Invalid(f"The title has {len(title)} characters; at most 200.", field=f"{path}title")
    if len(metadata) > 16:
        raise Invalid(f"There are {len(metadata)} metadata pairs; at most 16.", field=f"{path}metadata")
    for key, value in metadata.items():
        if not 1 <= len(key) <= 64 or len(value) > 512:
            words = f"metadata {key[:64]!r}: keys have 1 to 64, values up to 512 characters."
            raise Invalid(words, field=f"{path}metadata")
