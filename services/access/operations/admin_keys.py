"""The rule that an installation never loses its last admin key: nobody else could make another one."""

from datetime import datetime

from services.access.domain.keys import ApiKey, KeyRole, KeyState
from services.access.store import KEYS, AccessUnit
from services.chassis.errors import WrongState

_ACTIVE_ADMIN = (KEYS.c.role == KeyRole.ADMIN, KEYS.c.state == KeyState.ACTIVE)


async def require_another(uow: AccessUnit, key: ApiKey) -> None:
    """Refuse to end an admin key unless another one lasts: one that ends by itself would only delay the loss.

    Raises: WrongState
    """
    if await uow.keys.first(*_ACTIVE_ADMIN, KEYS.c.expire_time.is_(None), KEYS.c.id != key.id) is None:
        raise WrongState(
            f"{key.name!r} is the last admin key that does not end by itself, and without one nobody could make "
            "another. Make a new admin key without expire_time first, or rotate this one to end its secret.",
            reason="LAST_ADMIN_KEY",
            metadata={"api_key": key.id},
        )


async def has_admin_key(uow: AccessUnit, now: datetime) -> bool:
    """Return whether somebody can administer the installation."""
    return any(key.shown_state(now) is KeyState.ACTIVE for key in await uow.keys.select(*_ACTIVE_ADMIN))
