"""How to reach an object store, and what its errors mean in our words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from urllib3.exceptions import HTTPError

from services.chassis.errors import Conflict, Denied, Invalid, ModelryError, NotFound, Unavailable

_CONNECT_SECONDS = 5
_READ_SECONDS = 60
_TRIES = 3
_CONNECTIONS = 16

_DENIED_REASONS = {
    "InvalidAccessKeyId": "UNKNOWN_ACCESS_KEY",
    "SignatureDoesNotMatch": "WRONG_SECRET_KEY",
    "ExpiredToken": "EXPIRED_ACCESS_KEY",
    "RequestTimeTooSkewed": "CLOCK_SKEWED",
}
_DENIED_WORDS = {
    "UNKNOWN_ACCESS_KEY": "does not know this access key",
    "WRONG_SECRET_KEY": "says that the secret key does not belong to the access key",
    "EXPIRED_ACCESS_KEY": "says that the access key has expired",
    "CLOCK_SKEWED": "says that this machine's clock is wrong",
}


@dataclass(frozen=True)
class StoreAccess:
    """Endpoint and keys of an S3 store. `endpoint` "" is AWS itself.

    It is passed to workers as JSON; its text form shows no secret.
    """

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"

    def to_json(self) -> dict[str, str]:
        """With the secret: for a 0600 file or the vault only."""
        return {
            "endpoint": self.endpoint,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "region": self.region,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> StoreAccess:
        """The access that `to_json` wrote."""
        return cls(
            content["endpoint"], content["access_key"], content["secret_key"], content.get("region") or "us-east-1"
        )


def make_client(access: StoreAccess, *, connect_seconds: float = _CONNECT_SECONDS, tries: int = _TRIES) -> Any:
    """A client for any S3: path style and no checksums that only AWS knows. It may be shared between threads."""
    config = Config(
        s3={"addressing_style": "path"},
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=connect_seconds,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": tries},
        max_pool_connections=_CONNECTIONS,
        user_agent_extra="modelry",
    )
    with translated(access):
        return boto3.session.Session().client(
            "s3",
            endpoint_url=access.endpoint or None,
            aws_access_key_id=access.access_key,
            aws_secret_access_key=access.secret_key,
            region_name=access.region or "us-east-1",
            config=config,
        )


@contextmanager
def translated(access: StoreAccess, bucket: str = "", key: str = "") -> Iterator[None]:
    """Turns what boto3 raises into our errors, with the endpoint, bucket and key in the words."""
    try:
        yield
    except ClientError as error:
        raise _from_answer(error, access, bucket, key) from error
    except ParamValidationError as error:
        field_name = "key" if "parameter Key" in str(error) else "bucket"
        name = key if field_name == "key" else bucket
        raise Invalid(f"{name!r} is no valid {field_name}.", field=field_name) from error
    except ValueError as error:  # what botocore raises for an endpoint that is no URL
        raise Invalid(f"{access.endpoint!r} is no endpoint URL.", field="endpoint") from error
    except Boto3Error as error:
        inner = error.__context__
        if isinstance(inner, ClientError):
            raise _from_answer(inner, access, bucket, key) from error
        raise _unreachable(access, error) from error
    except (BotoCoreError, HTTPError, ConnectionError, TimeoutError) as error:
        raise _unreachable(access, error) from error


def where(access: StoreAccess) -> str:
    """The store as people know it."""
    return access.endpoint or f"AWS S3 ({access.region})"


def _unreachable(access: StoreAccess, error: Exception) -> Unavailable:
    message = f"The object store {where(access)} does not answer ({type(error).__name__})."
    return Unavailable(message, reason="STORE_UNREACHABLE", metadata={"endpoint": where(access)}, retry_seconds=2)


def _from_answer(error: ClientError, access: StoreAccess, bucket: str, key: str) -> ModelryError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    http = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    metadata = {"endpoint": where(access), "bucket": bucket, "key": key, "code": code}
    place = f"{bucket}/{key}" if key else bucket
    if code == "NoSuchBucket":
        message = f"There is no bucket {bucket!r} in {where(access)}."
        return NotFound(message, reason="BUCKET_NOT_FOUND", metadata=metadata)
    if http == 404:
        what = f"object {key!r} in bucket {bucket!r}" if key else f"bucket {bucket!r}"
        reason = "OBJECT_NOT_FOUND" if key else "BUCKET_NOT_FOUND"
        return NotFound(f"There is no {what} in {where(access)}.", reason=reason, metadata=metadata)
    if code in _DENIED_REASONS or http in (401, 403):
        reason = _DENIED_REASONS.get(code, "STORE_ACCESS_DENIED")
        words = _DENIED_WORDS.get(reason, f"refuses access to {place!r}" if place else "refuses access")
        return Denied(f"The object store {where(access)} {words}.", reason=reason, metadata=metadata)
    if http in (409, 412):
        message = f"{place!r} in {where(access)} was changed meanwhile ({code})."
        return Conflict(message, reason="OBJECT_CHANGED", metadata=metadata)
    if http in (408, 429) or http >= 500:
        message = f"The object store {where(access)} cannot answer now ({code or http})."
        return Unavailable(message, reason="STORE_BUSY", metadata=metadata, retry_seconds=2)
    if code == "InvalidBucketName":
        return Invalid(f"{bucket!r} is no bucket name.", field="bucket", metadata=metadata)
    said = str(error.response.get("Error", {}).get("Message", "")) or code
    message = f"The object store {where(access)} refuses the request for {place!r}: {said}."
    return Invalid(message, reason="STORE_REFUSES", metadata=metadata)
