"""Credentials: access to object stores. Secrets are sealed before they come here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from services.chassis.errors import Invalid, WrongState
from services.chassis.names import check_metadata, check_name

BUILTIN = "builtin"
DEFAULT_REGION = "us-east-1"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_VISIBLE = re.compile("[!-~]*")
_OPENS = ("endpoint", "region", "bucket", "access_key", "sealed_secret")
"""What opens the store: when one of these changes, it must be verified again."""


@dataclass(frozen=True)
class Credential:
    """Access to a store. `builtin` is the installation's own, whose address and keys are settings, not columns."""

    id: str
    project: str
    name: str
    create_time: datetime
    update_time: datetime
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    endpoint: str = ""
    region: str = DEFAULT_REGION
    bucket: str = ""
    access_key: str = ""
    sealed_secret: str = ""
    verify_time: datetime | None = None
    version: int = 1

    @property
    def builtin(self) -> bool:
        """Whether it is the installation's own store."""
        return self.name == BUILTIN

    def update(self, changes: Mapping[str, Any], sealed_secret: str, now: datetime) -> Credential:
        """Return it with other values; what opens the store must be verified again. Raises: WrongState, Invalid."""
        self.require_own("update")
        values = {name: value for name, value in changes.items() if name != "secret_key"}
        if sealed_secret:
            values["sealed_secret"] = sealed_secret
        changed = checked(replace(self, **values, version=self.version + 1, update_time=now))
        same = all(getattr(changed, name) == getattr(self, name) for name in _OPENS)
        return changed if same else replace(changed, verify_time=None)

    def note_verified(self, now: datetime) -> Credential:
        """Return it as verified now."""
        return replace(self, verify_time=now, version=self.version + 1)

    def require_own(self, verb: str) -> None:
        """Refuse a change of `builtin`. Raises: WrongState."""
        if self.builtin:
            raise WrongState(
                f"Cannot {verb} the credential {BUILTIN!r}: it is the installation's own store. Make another one.",
                reason="BUILTIN_CREDENTIAL",
            )

    def require_bucket(self, asked: str) -> str:
        """Return the bucket that a use of this credential is for: the asked one, else its own. Raises: Invalid."""
        if self.bucket and asked and asked != self.bucket:
            raise Invalid(
                f"The credential {self.name!r} is for the bucket {self.bucket!r} only, not for {asked!r}.",
                field="bucket",
                reason="WRONG_BUCKET",
            )
        bucket = asked or self.bucket
        if not bucket:
            raise Invalid(
                f"Say which bucket: the credential {self.name!r} is not for one alone.",
                field="bucket",
                reason="REQUIRED_FIELD",
            )
        return bucket


def checked(credential: Credential) -> Credential:
    """Return the credential with its defaults, if all of it is right. Raises: Invalid, naming the field."""
    check_name(credential.name, "credential.name")
    check_metadata(credential.metadata, "credential.")
    if credential.endpoint:
        _check_endpoint(credential.endpoint)
    if credential.bucket and not _BUCKET.fullmatch(credential.bucket):
        raise Invalid(f"credential.bucket {credential.bucket!r} is no name of a bucket.", field="credential.bucket")
    for name in ("access_key", "region", "endpoint"):
        value = getattr(credential, name)
        if not _VISIBLE.fullmatch(value):
            path = f"credential.{name}"
            raise Invalid(f"{path} has spaces, control characters or others that are no ASCII.", field=path)
    if not credential.builtin and not credential.access_key:
        raise Invalid("credential.access_key is required.", field="credential.access_key", reason="REQUIRED_FIELD")
    if not credential.builtin and not credential.sealed_secret:
        raise Invalid("credential.secret_key is required.", field="credential.secret_key", reason="REQUIRED_FIELD")
    return replace(credential, region=credential.region or DEFAULT_REGION)


def _check_endpoint(endpoint: str) -> None:
    path = "credential.endpoint"
    try:
        url = urlsplit(endpoint)
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise Invalid(f"{path} {endpoint!r} is no URL: {error}.", field=path) from error
    if url.scheme not in ("http", "https") or not host:
        raise Invalid(f"{path} {endpoint!r} is no http:// or https:// URL.", field=path)
    if url.username or url.password or url.query or url.fragment:
        raise Invalid(f"{path} must be the store's address alone, without user, query or fragment.", field=path)
