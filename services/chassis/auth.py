"""Who is calling: the principal of a call, its roles, and the short-lived tokens that carry it between processes.

The gateway checks the API key and hands on a token; a service that calls another issues one itself. Both are signed
with the installation's `token_secret` and carried as `authorization: Bearer <token>` metadata.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Literal, cast

import jwt

from services.chassis.clock import now
from services.chassis.errors import Denied, Unauthenticated

_ALGORITHM = "HS256"
_AUDIENCE = "modelry"
_LEEWAY_SECONDS = 5
_MOST_REMEMBERED = 10_000


class Role(IntEnum):
    """What a key may do; each role may do everything that the ones below it may."""

    INFERENCE = 1
    VIEWER = 2
    DEVELOPER = 3
    OWNER = 4
    ADMIN = 5


Kind = Literal["user", "service"]


@dataclass(frozen=True)
class Principal:
    """The caller of one call, and the project that the call is in.

    Attributes:
        project: id of the project; a call is always in one.
        role: what the caller may do there; ADMIN may act on any project.
        key_id: id of the API key behind the call, empty when a service acts by itself.
        kind: `user` for whoever holds an API key, `service` for a part of Modelry.
        subject: whom to name as the cause: the key's id, or the service's name.
    """

    project: str
    role: Role
    key_id: str = ""
    kind: Kind = "user"
    subject: str = ""

    def require(self, role: Role) -> None:
        """Refuse a caller below this role. Raises: Denied."""
        if self.role < role:
            raise Denied(
                f"This needs the role {role.name.lower()}, and the key has {self.role.name.lower()}. "
                "Use a key with that role.",
                metadata={"required_role": role.name, "role": self.role.name},
            )

    def require_service(self) -> None:
        """Refuse everybody but parts of Modelry. Raises: Denied."""
        if self.kind != "service":
            raise Denied("This method is for Modelry's own services.", metadata={"required_kind": "service"})


class TokenIssuer:
    """Signs and checks tokens with the secret that all processes of an installation share."""

    def __init__(self, secret: str) -> None:
        if len(secret) < 32:
            raise ValueError("token_secret needs at least 32 characters")
        self._secret = secret
        self._verified: dict[bytes, tuple[Principal, float]] = {}

    def issue(self, principal: Principal, seconds: float = 300.0) -> str:
        """Return a token that says who is calling, good for `seconds`."""
        time = now()
        claims = {
            "aud": _AUDIENCE,
            "sub": principal.subject,
            "project": principal.project,
            "role": principal.role.name,
            "key": principal.key_id,
            "kind": principal.kind,
            "iat": time,
            "exp": time + timedelta(seconds=seconds),
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def verify(self, token: str) -> Principal:
        """Return the principal that a token carries; verified tokens are kept to their end. Raises: Unauthenticated."""
        digest = hashlib.sha256(token.encode()).digest()
        principal, end = self._verified.get(digest, (None, 0.0))
        if principal is None or time.time() >= end:
            self._verified.pop(digest, None)
            principal, end = self._verify(token)
            if len(self._verified) >= _MOST_REMEMBERED:
                self._verified.clear()
            self._verified[digest] = (principal, end)
        return principal

    def issued_to(self, token: str) -> Principal:
        """Return the principal of a token of this installation, however old it is. Raises: Unauthenticated."""
        return self._verify(token, timely=False)[0]

    def _verify(self, token: str, *, timely: bool = True) -> tuple[Principal, float]:
        """Return the principal of a token, and the Unix time from which on it is no longer good."""
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                leeway=_LEEWAY_SECONDS,
                options={
                    "require": ["exp", "aud", "project", "role", "kind"],
                    "verify_exp": timely,
                    "verify_iat": timely,
                },
            )
            role, kind = Role[claims["role"]], claims["kind"]
        except (jwt.InvalidTokenError, KeyError) as error:
            raise Unauthenticated("The call's token is not valid or has run out.", reason="INVALID_TOKEN") from error
        if kind not in ("user", "service"):
            raise Unauthenticated("The call's token is of an unknown kind.", reason="INVALID_TOKEN")
        principal = Principal(claims["project"], role, claims.get("key", ""), cast(Kind, kind), claims.get("sub", ""))
        return principal, float(claims["exp"]) + _LEEWAY_SECONDS


_current: ContextVar[Principal | None] = ContextVar("modelry_principal", default=None)


def current() -> Principal:
    """Return the principal of the call being answered. Raises: Unauthenticated: there is none."""
    principal = _current.get()
    if principal is None:
        raise Unauthenticated("This call carries no key.")
    return principal


def current_or_none() -> Principal | None:
    """Return the principal of the call being answered, if this runs inside of one."""
    return _current.get()


def enter(principal: Principal | None) -> None:
    """Set the principal for the rest of this task; the server's interceptor calls this once for each call."""
    _current.set(principal)


@contextmanager
def acting_as(principal: Principal) -> Iterator[Principal]:
    """Set the principal for a block: for event handlers and tests."""
    token = _current.set(principal)
    try:
        yield principal
    finally:
        _current.reset(token)
