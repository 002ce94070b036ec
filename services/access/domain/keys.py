"""API keys: what a caller shows to be let in. Only hashes of secrets exist here."""

from __future__ import annotations

import enum
import hashlib
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.chassis.errors import Denied, Invalid
from services.chassis.names import check_name
from services.chassis.transitions import Transition

PREFIX = "mk-"
LONGEST_OVERLAP = timedelta(days=7)
_RANDOM_BYTES = 32
_SHORTEST_SECRET = 20
_DISPLAY_CHARACTERS = 8
_MOST_MODELS, _MOST_ADDRESSES = 100, 100


class KeyRole(enum.IntEnum):
    """What a key may do, in the order of the protos: each role may all that the ones before it may."""

    INFERENCE = 1
    VIEWER = 2
    DEVELOPER = 3
    OWNER = 4
    ADMIN = 5


class KeyState(enum.Enum):
    """Where a key stands."""

    ACTIVE = 1
    EXPIRED = 2
    REVOKED = 3


ROTATE = Transition("rotate", frozenset({KeyState.ACTIVE}), KeyState.ACTIVE)
REVOKE = Transition("revoke", frozenset({KeyState.ACTIVE, KeyState.EXPIRED}), KeyState.REVOKED)
EXPIRE = Transition("expire", frozenset({KeyState.ACTIVE}), KeyState.EXPIRED)


@dataclass(frozen=True)
class Secret:
    """One secret of a key: its hash, and until when it works (None: as long as the key)."""

    hash: str
    until: datetime | None = None


@dataclass(frozen=True)
class ApiKey:
    """An API key. An admin key is kept with the default project and acts in any."""

    id: str
    project: str
    name: str
    role: KeyRole
    secrets: tuple[Secret, ...]
    display: str
    create_time: datetime
    update_time: datetime
    title: str = ""
    state: KeyState = KeyState.ACTIVE
    models: tuple[str, ...] = ("*",)
    addresses: tuple[str, ...] = ()
    expire_time: datetime | None = None
    deployment_id: str = ""
    version: int = 1

    def apply(self, transition: Transition[KeyState], now: datetime) -> ApiKey:
        """Return it in the transition's target state. Raises: WrongState."""
        transition.check(self.state, "API key", self.id, "KEY_NOT_ACTIVE")
        return replace(self, state=transition.target, version=self.version + 1, update_time=now)

    def rotate(self, secret: str, overlap: timedelta, now: datetime) -> ApiKey:
        """Return it with a new secret; the present one works for `overlap` more. Raises: WrongState, Invalid."""
        if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
            raise Invalid("overlap must be from 0 to 7 days.", field="overlap")
        until = now + overlap
        # An ended secret stays on record, so that every gateway goes on hearing that it is over.
        old = tuple(replace(s, until=min(s.until, until) if s.until else until) for s in self.secrets)
        rotated = self.apply(ROTATE, now)
        return replace(rotated, secrets=(Secret(hash_of(secret)), *old), display=display_of(secret))

    def shown_state(self, now: datetime) -> KeyState:
        """Return its state; EXPIRED as soon as its time has passed, also when that is not stored yet."""
        over = self.expire_time is not None and self.expire_time <= now
        return KeyState.EXPIRED if over and self.state is KeyState.ACTIVE else self.state

    def require_reach(self, role: int) -> None:
        """Refuse a caller with a lower role than the key's. Raises: Denied."""
        if self.role > role:
            raise Denied(
                f"The key {self.name!r} has the role {self.role.name.lower()}, which is above yours.",
                metadata={"required_role": self.role.name},
            )


@dataclass(frozen=True)
class CreateKey:
    """What a caller asks of a new key."""

    name: str
    role: KeyRole = KeyRole.INFERENCE
    title: str = ""
    models: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    expire_time: datetime | None = None
    deployment_id: str = ""

    def make(self, key_id: str, project: str, secret: str, now: datetime) -> ApiKey:
        """Return the new key. Raises: Invalid, naming the field."""
        if self.expire_time is not None and self.expire_time <= now:
            raise Invalid("api_key.expire_time has passed already.", field="api_key.expire_time")
        check_name(self.name, "api_key.name")
        checked = {"models": _checked_models(self.models), "addresses": _checked_addresses(self.addresses)}
        return ApiKey(
            id=key_id,
            project=project,
            secrets=(Secret(hash_of(secret)),),
            display=display_of(secret),
            create_time=now,
            update_time=now,
            **vars(self) | checked,
        )


def new_secret() -> str:
    """Return a new secret: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def check_secret(secret: str) -> str:
    """Return a secret given from outside, if it has the form of one. Raises: Invalid."""
    if not secret.startswith(PREFIX) or len(secret) < _SHORTEST_SECRET or not secret.isascii() or " " in secret:
        raise Invalid(f"A key begins with {PREFIX!r} and has at least {_SHORTEST_SECRET} characters without spaces.")
    return secret


def hash_of(secret: str) -> str:
    """Return the SHA-256 of a secret, in hexadecimal. Secrets are long and random, so that no salt is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def display_of(secret: str) -> str:
    """Return the first characters of a secret, by which its owner knows it again."""
    return secret[:_DISPLAY_CHARACTERS] + "…"


def _checked_models(models: Sequence[str]) -> tuple[str, ...]:
    if len(models) > _MOST_MODELS:
        raise Invalid(f"api_key.models has over {_MOST_MODELS} entries.", field="api_key.models")
    for index, model in enumerate(models):
        if not model or model != model.strip():
            path = f"api_key.models[{index}]"
            raise Invalid(f"{path} is no call name: it is empty, or begins or ends with a space.", field=path)
    return tuple(dict.fromkeys(models)) or ("*",)


def _checked_addresses(addresses: Sequence[str]) -> tuple[str, ...]:
    if len(addresses) > _MOST_ADDRESSES:
        raise Invalid(f"api_key.addresses has over {_MOST_ADDRESSES} entries.", field="api_key.addresses")
    networks = []
    for index, address in enumerate(addresses):
        try:
            networks.append(str(ipaddress.ip_network(address, strict=False)))
        except ValueError as error:
            path = f"api_key.addresses[{index}]"
            message = f"{path} {address!r} is no address or CIDR range such as 10.0.0.0/8."
            raise Invalid(message, field=path) from error
    return tuple(dict.fromkeys(networks))
