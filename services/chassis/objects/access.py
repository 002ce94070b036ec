"""How to reach an object store, and what its errors mean in our words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from services.chassis.errors import ModelryError, Unavailable
from services.chassis.objects.addresses import ForeignRules

if TYPE_CHECKING:
    from services.chassis.settings import Settings

_WRONG_SHAPE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What reading an answer raises that lacks a field or has another kind of value there."""


@dataclass(frozen=True)
class StoreAccess:
    """Endpoint and keys of an S3 store. `endpoint` "" is AWS itself.

    It is passed to workers as JSON; its text form shows no secret.

    Attributes:
        ca_file: certificates that are trusted beside the well-known ones; empty: none.
        foreign: what holds for a store that a credential names; None: it is the installation's own.
    """

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    ca_file: str = ""
    foreign: ForeignRules | None = None

    @classmethod
    def of_settings(cls, settings: Settings) -> StoreAccess:
        """Return the installation's own store."""
        return cls(
            settings.objects_endpoint,
            settings.objects_access_key,
            settings.objects_secret_key.get_secret_value(),
            settings.objects_region,
            settings.ca_file,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it with the secret: for a 0600 file or the vault only."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> StoreAccess:
        """Return the access that `to_json` wrote."""
        rules = content.get("foreign")
        return cls(
            content["endpoint"],
            content["access_key"],
            content["secret_key"],
            content.get("region") or "us-east-1",
            content.get("ca_file", ""),
            None if rules is None else ForeignRules.from_json(rules),
        )

    @property
    def name(self) -> str:
        """The store as people know it."""
        return self.endpoint or f"AWS S3 ({self.region})"

    def malformed(self, words: str) -> Unavailable:
        """Return the error for an answer that is none of an object store."""
        message = f"The object store {self.name} answers what no object store answers: {words}."
        return Unavailable(message, reason="STORE_MALFORMED", metadata={"endpoint": self.name}, retry_seconds=30)


@contextmanager
def translated(access: StoreAccess, bucket: str = "", key: str = "") -> Iterator[None]:
    """Turn what the S3 library raises, or reading its answer, into our errors, with endpoint, bucket and key."""
    try:
        yield
    except ModelryError:
        raise
    except Exception as error:
        from services.chassis.objects import s3  # whoever raised this has loaded the library already

        known = s3.translate(error, access, bucket, key)
        if known is None and isinstance(error, _WRONG_SHAPE):
            known = access.malformed("a field is missing or wrong")
        if known is None:
            raise
        raise known from error
