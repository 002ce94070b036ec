"""Model references, taken apart: `NAME`, `NAME@VERSION`, `NAME@ALIAS`, a hub id, `mv-…` or `ft:…`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.chassis.errors import Invalid

ALIAS = re.compile(r"[a-z][a-z0-9-]{0,62}")
_DIGITS = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Reference:
    """What a reference names: a version by id or `ft:` name, or a model with a number, an alias or its newest."""

    version_id: str = ""
    fine_tuned_name: str = ""
    model: str = ""
    number: int | None = None
    alias: str = ""


def parse_reference(text: str, field: str) -> Reference:
    """Return the reference that a caller wrote. Raises: Invalid."""
    if text.startswith("mv-"):
        return Reference(version_id=text)
    if text.startswith("ft:"):
        return Reference(fine_tuned_name=text)
    name, at, rest = text.partition("@")
    if not name or (at and not (_DIGITS.fullmatch(rest) or ALIAS.fullmatch(rest))):
        raise Invalid(
            f"{text!r} is no model reference: write NAME, NAME@VERSION, NAME@ALIAS, a hub id, mv-… or ft:….",
            field=field,
        )
    if not at or rest == "latest":
        return Reference(model=name)
    return Reference(model=name, number=int(rest)) if rest.isdigit() else Reference(model=name, alias=rest)


def version_key(text: str, field: str) -> Reference:
    """Return what a path names a version by, within a model: number, alias, id or `latest`. Raises: Invalid."""
    if text.startswith("mv-"):
        return Reference(version_id=text)
    if text == "latest":
        return Reference()
    if _DIGITS.fullmatch(text):
        return Reference(number=int(text))
    if ALIAS.fullmatch(text):
        return Reference(alias=text)
    raise Invalid(f"{text!r} is no version: write its number, an alias, its id (mv-…) or latest.", field=field)
