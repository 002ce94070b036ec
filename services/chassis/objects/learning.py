"""What a client learns from the refusals of a store: in which region a bucket is, and how its address is written.

Credentials have a region with a default, and nobody knows by heart whether a store wants `https://store/bucket/key` or
`https://bucket.store/key`. The refusal says both, so the request is sent again as the store wants it, and all later
ones for the bucket too.
"""

import logging
import re
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from botocore.exceptions import BotoCoreError, ClientError

from services.chassis.objects.access import StoreAccess

_log = logging.getLogger(__name__)
# How stores refuse a bucket in the path: Alibaba's, Tencent's, Huawei's, Volcano's, and some of IBM's and Oracle's.
_WANTS_HOST = (
    *("SecondLevelDomainForbidden", "PathStyleDomainForbidden", "VirtualHostDomainRequired"),
    *("InvalidPathAccess", "PathStyleAccessNotAllowed"),
)
_WRONG_REGION = ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_HOST_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""Buckets that may be a part of a host: one with a dot fits no certificate."""


class Learned:
    """The facts of one client, and the hooks that learn and apply them."""

    def __init__(self, client: Any, access: StoreAccess) -> None:
        self._client, self._access = client, access
        self._regions: dict[str, str] = {}
        self._in_host: set[str] = set()
        self._asking: set[str] = set()
        events = client.meta.events
        events.register_last("before-parameter-build.s3", self._note_bucket)
        events.register("before-call.s3", self._apply)
        events.register_first("needs-retry.s3", self._learn)

    def words(self, bucket: str) -> str:
        """Return where a bucket is and where it was looked for, if these are two regions."""
        region = self._regions.get(bucket, "")
        return f" The bucket is in the region {region}, not in {self._access.region}." if region else ""

    def _note_bucket(self, params: Any, context: Any, **_: Any) -> None:
        context["modelry_bucket"] = params.get("Bucket", "")
        # The library follows a redirection by asking again without an end where a store redirects that too.
        context["s3_redirect"] = {**context.get("s3_redirect", {}), "redirected": True}

    def _apply(self, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        bucket = context.get("modelry_bucket", "")
        if bucket in self._regions:
            _sign_for(context, self._regions[bucket])
        if bucket in self._in_host:
            params["url"] = _with_bucket_in_host(params["url"], bucket)

    def _learn(self, response: Any, request_dict: dict[str, Any], **_: Any) -> int | None:
        """Return 0: the request is sent again at once, as the store wants it."""
        context = request_dict["context"]
        bucket = context.get("modelry_bucket", "")
        if response is None or not bucket or context.get("modelry_learned"):
            return None
        before = (self._regions.get(bucket), bucket in self._in_host)
        self._read(bucket, response[1])
        if (self._regions.get(bucket), bucket in self._in_host) == before:
            return None
        context["modelry_learned"] = True
        self._apply(request_dict, context)
        return 0

    def _read(self, bucket: str, answer: dict[str, Any]) -> None:
        error = answer.get("Error", {})
        facts = answer.get("ResponseMetadata", {})
        code, http = str(error.get("Code", "")), int(facts.get("HTTPStatusCode", 0))
        region = str(facts.get("HTTPHeaders", {}).get("x-amz-bucket-region") or error.get("Region") or "")
        wrong_region = code in _WRONG_REGION or (code.isdigit() and http in (301, 400))
        if wrong_region and _REGION.fullmatch(region) and region != self._access.region:
            self._note_region(bucket, region)
        elif code in _WANTS_HOST and _HOST_BUCKET.fullmatch(bucket):
            self._in_host.add(bucket)
        elif code.isdigit() and http in (301, 400, 403):
            self._ask(bucket)

    def _note_region(self, bucket: str, region: str) -> None:
        if self._regions.get(bucket) != region:
            words = "the bucket %s of %s is in the region %s; it was asked for in %s"
            _log.warning(words, bucket, self._access.name, region, self._access.region)
        self._regions[bucket] = region

    def _ask(self, bucket: str) -> None:
        """Ask for a list: the answer to a HEAD has no body that says what is wrong."""
        if bucket in self._asking:
            return
        self._asking.add(bucket)
        try:
            with suppress(ClientError, BotoCoreError):
                self._client.list_objects_v2(Bucket=bucket, MaxKeys=1)
        finally:
            self._asking.discard(bucket)


def _sign_for(context: dict[str, Any], region: str) -> None:
    context["signing"] = {**context.get("signing", {}), "region": region}


def _with_bucket_in_host(url: str, bucket: str) -> str:
    """Return an address whose bucket was the first part of its path."""
    parts = urlsplit(url)
    if parts.netloc.startswith(f"{bucket}."):
        return url
    path = parts.path.removeprefix(f"/{bucket}") or "/"
    return urlunsplit((parts.scheme, f"{bucket}.{parts.netloc}", path, parts.query, ""))
