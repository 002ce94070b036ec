"""The first start: the project that always exists, and the first admin key."""

import os
from datetime import datetime
from pathlib import Path

from services.access.domain.keys import check_secret
from services.access.operations import keys, projects
from services.access.operations.context import ServiceContext
from services.chassis.errors import Invalid


async def bootstrap(file: Path, given: str, context: ServiceContext, now: datetime) -> None:
    """Make what a new installation needs; an old one is left as it is.

    Args:
        file: where the first admin key is written for its owner, readable by nobody else.
        given: a key to be used as that, instead of a random one.

    Raises: Invalid: the given key is none.
    """
    await projects.ensure_default(context, now)
    if await keys.has_admin_key(context):
        return
    # Written before it is stored: a start that breaks off between the two finds the file and goes on with it.
    secret = check_secret(given) if given else _kept(file) or keys.new_secret()
    _write_private(file, secret + "\n")
    await keys.add_first_admin(secret, context, now)


def _kept(file: Path) -> str:
    """Return the key in the file, if there is one."""
    try:
        return check_secret(file.read_text("utf-8").strip())
    except (OSError, UnicodeDecodeError, Invalid):
        return ""


def _write_private(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    part.replace(file)
