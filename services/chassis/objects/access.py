"""How to reach an object store, and what its errors mean in our words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from services.chassis.errors import ModelryError

if TYPE_CHECKING:
    from services.chassis.settings import Settings


@dataclass(frozen=True)
class StoreAccess:
    """Endpoint and keys of an S3 store. `endpoint` "" is AWS itself.

    It is passed to workers as JSON; its text form shows no secret.
    """

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"

    @classmethod
    def of_settings(cls, settings: Settings) -> StoreAccess:
        """Return the installation's own store."""
        return cls(
            settings.objects_endpoint,
            settings.objects_access_key,
            settings.objects_secret_key.get_secret_value(),
            settings.objects_region,
        )

    def to_json(self) -> dict[str, str]:
        """Return it with the secret: for a 0600 file or the vault only."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> StoreAccess:
        """Return the access that `to_json` wrote."""
        return cls(
            content["endpoint"], content["access_key"], content["secret_key"], content.get("region") or "us-east-1"
        )

    @property
    def name(self) -> str:
        """The store as people know it."""
        return self.endpoint or f"AWS S3 ({self.region})"


@contextmanager
def translated(access: StoreAccess, bucket: str = "", key: str = "") -> Iterator[None]:
    """Turn what the S3 library raises into our errors, with the endpoint, bucket and key in the words."""
    try:
        yield
    except ModelryError:
        raise
    except Exception as error:
        from services.chassis.objects import s3  # whoever raised this has loaded the library already

        known = s3.translate(error, access, bucket, key)
        if known is None:
            raise
        raise known from error
