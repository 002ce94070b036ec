"""The first start: the project that always exists, and the first admin key."""

import logging
import os
from datetime import datetime
from pathlib import Path

from services.access.domain.keys import CreateKey, KeyRole, check_secret, hash_of, new_secret
from services.access.domain.projects import DEFAULT_ID
from services.access.operations import projects
from services.access.operations.admin_keys import has_admin_key
from services.access.operations.context import ServiceContext
from services.access.operations.keys import save_key
from services.access.store import AccessUnit
from services.chassis.ids import new_id

_log = logging.getLogger(__name__)


async def bootstrap(file: Path, given: str, context: ServiceContext, now: datetime) -> None:
    """Make what a new installation needs; an old one is left as it is, unless it has no admin key any more.

    The secret of the new key is never one that was used before, whoever may have come to know that.

    Args:
        file: where a new admin key is written for its owner, readable by nobody else.
        given: a key to be used as that, instead of a random one.

    Raises: Invalid: the given key is none.
    """
    await projects.ensure_default(context, now)
    async with context.reading() as uow:
        if await has_admin_key(uow, now):
            return
        known = await uow.keys.select()
    used = {secret.hash for key in known for secret in key.secrets}
    secret = check_secret(given) if given else new_secret()
    if hash_of(secret) in used:
        _log.warning("MODELRY_BOOTSTRAP_KEY was the secret of a key that has ended: a random one is made instead")
        secret = new_secret()
    if known:
        _log.warning("no admin key is left: a new one is made, and written to %s", file)
    # Written before it is stored: a start that breaks off between the two makes another one and writes that.
    _write_private(file, secret + "\n")
    async with context.writing() as uow:
        await _add_admin(uow, secret, now)
        await uow.commit()


async def _add_admin(uow: AccessUnit, secret: str, now: datetime) -> None:
    key_id = new_id("key-")
    first = await uow.keys.find(DEFAULT_ID, "admin") is None
    name, cause = ("admin", "Made at the first start.") if first else (key_id, "Made at a start without an admin key.")
    key = CreateKey(name, KeyRole.ADMIN, title="First admin key").make(key_id, DEFAULT_ID, secret, now)
    await save_key(uow, key, "created", None, cause)


def _write_private(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    part.replace(file)
