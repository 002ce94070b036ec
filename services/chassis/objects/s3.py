"""The S3 library: this module, `connections` and `learning` alone import it.

It takes a third of a second to load, so this module is imported where a client is made and not with the package.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.configprovider import ConfigValueStore, ConstantProvider
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from urllib3.exceptions import HTTPError

from services.chassis.direct import is_loopback
from services.chassis.errors import Conflict, Denied, Invalid, ModelryError, NotFound, Unavailable
from services.chassis.objects.access import StoreAccess
from services.chassis.objects.connections import StoreSession
from services.chassis.objects.learning import Learned
from services.chassis.objects.pace import BrokenRule

MIB = 1 << 20
_UPLOAD = TransferConfig(multipart_threshold=64 * MIB, multipart_chunksize=64 * MIB, max_concurrency=4)
_DOWNLOAD = TransferConfig(multipart_threshold=256 * MIB, multipart_chunksize=128 * MIB, max_concurrency=2)
# Copies stay on the server; S3 takes up to 5 GB in one request.
_COPY = TransferConfig(multipart_threshold=5 * 1024 * MIB - 1, multipart_chunksize=1024 * MIB, max_concurrency=4)
_READ_SECONDS = 60
_CONNECTIONS = 16

_DENIED_REASONS = {
    "InvalidAccessKeyId": "UNKNOWN_ACCESS_KEY",
    "SignatureDoesNotMatch": "WRONG_SECRET_KEY",
    "ExpiredToken": "EXPIRED_ACCESS_KEY",
    "RequestTimeTooSkewed": "CLOCK_SKEWED",
}
_CODES = frozenset(
    (
        *_DENIED_REASONS,
        *("AccessDenied", "AccountProblem", "AllAccessDisabled", "AuthorizationHeaderMalformed", "BadDigest"),
        *("BucketAlreadyExists", "BucketAlreadyOwnedByYou", "EntityTooLarge", "EntityTooSmall"),
        *("IllegalLocationConstraintException", "InternalError", "InvalidArgument", "InvalidBucketName"),
        *("InvalidDigest", "InvalidObjectState", "InvalidPart", "InvalidRange", "InvalidRequest"),
        *("InvalidToken", "KeyTooLongError", "MalformedXML", "MethodNotAllowed", "MissingContentLength"),
        *("NoSuchBucket", "NoSuchKey", "NoSuchUpload", "NotImplemented", "OperationAborted"),
        *("PermanentRedirect", "PreconditionFailed", "QuotaExceeded", "RequestTimeout", "ServiceUnavailable"),
        *("SlowDown", "TemporaryRedirect", "TooManyBuckets", "XMinioStorageFull"),
    )
)
"""What an answer may say that is passed on."""
_DENIED_WORDS = {
    "UNKNOWN_ACCESS_KEY": "does not know this access key",
    "WRONG_SECRET_KEY": "says that the secret key does not belong to the access key",
    "EXPIRED_ACCESS_KEY": "says that the access key has expired",
    "CLOCK_SKEWED": "says that this machine's clock is wrong",
}


class S3Client:
    """A client for any S3, with the sizes of parts that suit large files. It may be shared between threads."""

    def __init__(self, access: StoreAccess, *, connect_seconds: float, tries: int) -> None:
        """Args: tries: how often one request is sent at most. Raises: Invalid: the endpoint is no URL."""
        self.raw = _make_client(access, connect_seconds=connect_seconds, tries=tries)
        # AWS has an address for each region, which the library knows; it asks there itself.
        self.learned = None if _is_aws(access.endpoint) else Learned(self.raw, access)

    def upload(self, path: Path, bucket: str, key: str) -> None:
        """Upload a file, in parts when it is large."""
        self.raw.upload_file(str(path), bucket, key, Config=_UPLOAD)

    def download(self, bucket: str, key: str, path: Path) -> None:
        """Download an object, in parts when it is large."""
        self.raw.download_file(bucket, key, str(path), Config=_DOWNLOAD)

    def copy(self, bucket: str, key: str, target_bucket: str, target_key: str) -> None:
        """Copy an object inside the store."""
        self.raw.copy({"Bucket": bucket, "Key": key}, target_bucket, target_key, Config=_COPY)


def _make_client(access: StoreAccess, *, connect_seconds: float, tries: int) -> Any:
    """Make a client with path style and no checksums that only AWS knows."""
    try:
        client = _library_client(access, connect_seconds, tries)
    except ValueError as error:  # what botocore raises for an endpoint that is no URL
        raise Invalid(f"{access.endpoint!r} is no endpoint URL.", field="endpoint") from error
    made = client._endpoint.http_session
    client._endpoint.http_session = StoreSession(
        access,
        timeout=(connect_seconds, _READ_SECONDS),
        proxies=made._proxy_config._proxies,
        max_pool_connections=_CONNECTIONS,
        socket_options=made._socket_options,
    )
    made.close()
    return client


def _library_client(access: StoreAccess, connect_seconds: float, tries: int) -> Any:
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
        # None: those of the environment, which `no_proxy` limits.
        proxies={} if is_loopback(access.endpoint) else None,
    )
    return _own_session().client(
        "s3",
        endpoint_url=access.endpoint or None,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        region_name=access.region or "us-east-1",
        config=config,
    )


def _is_aws(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return not endpoint or host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _own_session() -> boto3.session.Session:
    """Return a session that knows the library's defaults alone.

    It reads neither `~/.aws` nor a variable: keys, endpoint and region come from us, and a profile, a CA or an option
    that was left over by another tool must not stop us.
    """
    session = botocore.session.Session()
    defaults = {name: default for name, (_, _, default, _) in session.SESSION_VARIABLES.items()}
    defaults |= {"config_file": os.devnull, "credentials_file": os.devnull, "ignore_configured_endpoint_urls": True}
    values = {name: ConstantProvider(default) for name, default in defaults.items()}
    session.register_component("config_store", ConfigValueStore(values))
    return boto3.session.Session(botocore_session=session)


def translate(error: Exception, access: StoreAccess, bucket: str, key: str) -> ModelryError | None:
    """Return what an error of the library means in our words; None: it is no error of a store."""
    if broken := _broken_rule(error):
        return _from_rule(broken, access)
    if isinstance(error, ClientError):
        return _from_answer(error, access, bucket, key)
    if isinstance(error, ParamValidationError):
        field = "key" if "parameter Key" in str(error) else "bucket"
        name = key if field == "key" else bucket
        return Invalid(f"{name!r} is no valid {field}.", field=field)
    if isinstance(error, Boto3Error) and isinstance(error.__context__, ClientError):
        return _from_answer(error.__context__, access, bucket, key)
    if isinstance(error, (Boto3Error, BotoCoreError, HTTPError, ConnectionError, TimeoutError)):
        return _unreachable(access, error)
    return None


def _broken_rule(error: BaseException | None) -> BrokenRule | None:
    """Return the broken rule that an error was raised from; the library wraps it several times."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, BrokenRule):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _from_rule(broken: BrokenRule, access: StoreAccess) -> ModelryError:
    message = f"The object store {access.name} {broken.words}."
    metadata = {"endpoint": access.name}
    if broken.reason == "ENDPOINT_NOT_ALLOWED":
        return Invalid(message, field="endpoint", reason=broken.reason, metadata=metadata)
    if broken.reason == "STORE_CERTIFICATE":
        trusted = f"It trusts {access.ca_file} beside the well-known ones." if access.ca_file else "It is empty now."
        message += f" Name a file with the certificate of its authority in the setting `ca_file`. {trusted}"
    return Unavailable(message, reason=broken.reason, metadata=metadata, retry_seconds=30)


def _unreachable(access: StoreAccess, error: Exception) -> Unavailable:
    message = f"The object store {access.name} does not answer ({type(error).__name__})."
    return Unavailable(message, reason="STORE_UNREACHABLE", metadata={"endpoint": access.name}, retry_seconds=2)


def _from_answer(error: ClientError, access: StoreAccess, bucket: str, key: str) -> ModelryError:
    code = _known_code(error)
    http = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    metadata = {"endpoint": access.name, "bucket": bucket, "key": key, "code": code}
    place = f"{bucket}/{key}" if key else bucket
    if code == "NoSuchBucket":
        message = f"There is no bucket {bucket!r} in {access.name}."
        return NotFound(message, reason="BUCKET_NOT_FOUND", metadata=metadata)
    if http == 404:
        what = f"object {key!r} in bucket {bucket!r}" if key else f"bucket {bucket!r}"
        reason = "OBJECT_NOT_FOUND" if key else "BUCKET_NOT_FOUND"
        return NotFound(f"There is no {what} in {access.name}.", reason=reason, metadata=metadata)
    if code in _DENIED_REASONS or http in (401, 403):
        reason = _DENIED_REASONS.get(code, "STORE_ACCESS_DENIED")
        words = _DENIED_WORDS.get(reason, f"refuses access to {place!r}" if place else "refuses access")
        return Denied(f"The object store {access.name} {words}.", reason=reason, metadata=metadata)
    if http in (409, 412):
        message = f"{place!r} in {access.name} was changed meanwhile ({code})."
        return Conflict(message, reason="OBJECT_CHANGED", metadata=metadata)
    if http in (408, 429) or http >= 500:
        message = f"The object store {access.name} cannot answer now ({code or http})."
        return Unavailable(message, reason="STORE_BUSY", metadata=metadata, retry_seconds=2)
    if code == "InvalidBucketName":
        return Invalid(f"{bucket!r} is no bucket name.", field="bucket", metadata=metadata)
    message = f"The object store {access.name} refuses the request for {place!r} ({code or http})."
    return Invalid(message, reason="STORE_REFUSES", metadata=metadata)


def _known_code(error: ClientError) -> str:
    """Return the code of an answer if it is one of S3; nothing else that a store says is passed on."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if code in _CODES or code.isdigit() else ""
