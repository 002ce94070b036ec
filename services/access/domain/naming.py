"""What names, titles and metadata may look like."""

from __future__ import annotations

import re
from collections.abc import Mapping

from services.chassis.errors import Invalid

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_TITLE_CHARACTERS = 200
_PAIRS, _KEY_CHARACTERS, _VALUE_CHARACTERS = 16, 64, 512


def check_name(name: str, field: str) -> str:
    """The name, if it is one. Raises: Invalid."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{field} {name!r} is no name: 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit.",
            field=field,
        )
    return name


def check_title(title: str, field: str) -> str:
    """The title, if it is short enough. Raises: Invalid."""
    if len(title) > _TITLE_CHARACTERS:
        raise Invalid(f"{field} has {len(title)} characters; at most {_TITLE_CHARACTERS} are allowed.", field=field)
    return title


def check_metadata(metadata: Mapping[str, str], field: str) -> dict[str, str]:
    """The pairs, if there are not too many and none is too long. Raises: Invalid."""
    if len(metadata) > _PAIRS:
        raise Invalid(f"{field} has {len(metadata)} pairs; at most {_PAIRS} are allowed.", field=field)
    for key, value in metadata.items():
        if not 0 < len(key) <= _KEY_CHARACTERS or len(value) > _VALUE_CHARACTERS:
            raise Invalid(
                f"{field}[{key[:_KEY_CHARACTERS]}] is too long: a key has 1 to {_KEY_CHARACTERS} characters, "
                f"a value at most {_VALUE_CHARACTERS}.",
                field=f"{field}[{key[:_KEY_CHARACTERS]}]",
            )
    return dict(metadata)
