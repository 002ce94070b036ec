"""One S3 store: whole objects, folders of objects, streams. Blocking; `AsyncObjectStore` is for event loops."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from services.chassis.errors import Invalid, NotFound, Unavailable
from services.chassis.objects.access import StoreAccess, translated
from services.chassis.objects.stream import ObjectStream

if TYPE_CHECKING:
    from services.chassis.objects.s3 import S3Client

MIB = 1 << 20
_WHOLE_TRIES = 4
_EMPTY_PAGES = 20
"""Pages in a row with nothing on them: where much was deleted a store may have some."""
_DELETE_BATCH = 1000
_WHOLE_OBJECT_BYTES = 256 * MIB


@dataclass(frozen=True)
class ObjectInfo:
    """An object as HEAD or LIST gives it; (size, etag) is its identity. `etag` has no quotes."""

    key: str
    size: int
    etag: str
    modified: datetime | None = None


@dataclass(frozen=True)
class ListPage:
    """One page of a bucket: objects, sub-folders (each ends with "/"), and the token of the next page or ""."""

    objects: tuple[ObjectInfo, ...]
    prefixes: tuple[str, ...]
    next_token: str


def folder_prefix(prefix: str) -> str:
    """Return the prefix as a folder: no leading "/", one trailing, so that `jobs/1` never means `jobs/10`."""
    stripped = prefix.strip("/")
    return f"{stripped}/" if stripped else ""


class ObjectStore:
    """Blocking operations on one store; safe to share between threads. Raises chassis errors only."""

    def __init__(self, access: StoreAccess, *, connect_seconds: float = 5, tries: int = 3) -> None:
        """Connect on first use. `tries` is how often one request is sent at most."""
        self.access = access
        self._options: dict[str, Any] = {"connect_seconds": connect_seconds, "tries": tries}
        self._lock = Lock()
        self._made: S3Client | None = None

    @property
    def s3(self) -> S3Client:
        """The client, made at its first use."""
        from services.chassis.objects.s3 import S3Client  # loads the S3 library: not before the service is ready

        with self._lock:
            if self._made is None:
                self._made = S3Client(self.access, **self._options)
            return self._made

    @property
    def client(self) -> Any:
        """The library's own client, for what this class has no word for."""
        return self.s3.raw

    def ensure_bucket(self, bucket: str) -> None:
        """Make the bucket unless it is there."""
        try:
            with translated(self.access, bucket):
                self.client.head_bucket(Bucket=bucket)
                return
        except NotFound:
            pass
        region = self.access.region
        more = {} if region in ("", "us-east-1") else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        with translated(self.access, bucket):
            try:
                self.client.create_bucket(Bucket=bucket, **more)
            except (self.client.exceptions.BucketAlreadyOwnedByYou, self.client.exceptions.BucketAlreadyExists):
                self.client.head_bucket(Bucket=bucket)

    def buckets(self) -> Sequence[str]:
        """Return the names of the buckets that these keys see."""
        with translated(self.access):
            return sorted(bucket["Name"] for bucket in self.client.list_buckets().get("Buckets", []))

    def head(self, bucket: str, key: str) -> ObjectInfo:
        """Return the size and etag of an object. Raises NotFound."""
        with translated(self.access, bucket, key):
            answer = self.client.head_object(Bucket=bucket, Key=key)
            if "ContentLength" not in answer or "LastModified" not in answer:
                raise ConnectionError("the answer ended within its headers")
        etag = str(answer.get("ETag", "")).strip('"')
        return ObjectInfo(key, int(answer["ContentLength"]), etag, answer.get("LastModified"))

    def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """Return the same as `head`, None if there is none."""
        try:
            return self.head(bucket, key)
        except NotFound as error:
            if error.metadata.get("code") == "NoSuchBucket":
                raise
            return None

    def list_page(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", page_size: int = 1000, token: str = ""
    ) -> ListPage:
        """Return one page of at most 1000 entries; with the delimiter "/" sub-folders are one entry each."""
        more = {name: value for name, value in (("Delimiter", delimiter), ("ContinuationToken", token)) if value}
        with translated(self.access, bucket):
            answer = self.client.list_objects_v2(
                Bucket=bucket, Prefix=prefix, MaxKeys=max(1, min(page_size, 1000)), **more
            )
            page = _page(answer)
        if any(not name.startswith(prefix) for name in (*(info.key for info in page.objects), *page.prefixes)):
            raise self.access.malformed("keys that were not asked for")
        return page

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object whose key begins with the prefix, page by page.

        Raises: Unavailable: the store goes on with pages on which nothing is.
        """
        token, empty = "", 0
        while True:
            page = self.list_page(bucket, prefix, token=token)
            yield from page.objects
            if not page.next_token:
                return
            empty = 0 if page.objects else empty + 1
            if empty >= _EMPTY_PAGES or page.next_token == token:
                raise self.access.malformed("pages of a list that do not end")
            token = page.next_token

    def put_bytes(self, bucket: str, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Write a small object."""
        with translated(self.access, bucket, key):
            self.client.put_object(Bucket=bucket, Key=key, Body=data, ContentType=content_type)

    def get_bytes(self, bucket: str, key: str, limit_bytes: int = _WHOLE_OBJECT_BYTES) -> bytes:
        """Read a small object. Raises Invalid when it is larger than the limit."""
        with self.open_stream(bucket, key) as stream:
            if stream.size > limit_bytes:
                message = f"{bucket}/{key} has {stream.size} bytes; at most {limit_bytes} are read here."
                raise Invalid(message, reason="OBJECT_TOO_LARGE")
            return stream.read()

    def put_json(self, bucket: str, key: str, content: Any) -> None:
        """Write an object as JSON."""
        self.put_bytes(bucket, key, json.dumps(content, ensure_ascii=False).encode(), "application/json")

    def get_json(self, bucket: str, key: str) -> Any:
        """Read a JSON object. Raises Invalid when it is none."""
        try:
            return json.loads(self.get_bytes(bucket, key))
        except ValueError as error:
            raise Invalid(f"{bucket}/{key} is no JSON.", reason="OBJECT_IS_NO_JSON") from error

    def open_stream(self, bucket: str, key: str, offset: int = 0) -> ObjectStream:
        """Open an object for reading in constant memory; it survives broken connections."""
        return ObjectStream(self.client, self.access, bucket, key, offset)

    def upload_file(self, path: Path, bucket: str, key: str) -> ObjectInfo:
        """Upload a file, in parts when it is large.

        A broken upload starts again as a whole (upload ids die with the embedded server); when it is unclear whether
        it was completed, HEAD and the size decide.
        """
        for number in range(_WHOLE_TRIES):
            try:
                with translated(self.access, bucket, key):
                    self.s3.upload(path, bucket, key)
                return self.head(bucket, key)
            except (Unavailable, NotFound) as error:
                # NotFound without a missing bucket: the server forgot the upload's id.
                if number + 1 == _WHOLE_TRIES or error.reason == "BUCKET_NOT_FOUND":
                    raise
                stored = self._stored_after_doubt(path, bucket, key)
                if stored is not None:
                    return stored
                time.sleep(0.5 * 2**number)
        raise AssertionError("the loop above returns or raises")

    def _stored_after_doubt(self, path: Path, bucket: str, key: str) -> ObjectInfo | None:
        try:
            stored = self.find(bucket, key)
        except Unavailable:
            return None
        if stored is None or stored.size != path.stat().st_size:
            return None
        # A plain etag is the MD5 of the content and tells an older object of the same size apart.
        return stored if "-" in stored.etag or stored.etag == _md5(path) else None

    def download_file(self, bucket: str, key: str, path: Path) -> None:
        """Download an object to a file that appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with translated(self.access, bucket, key):
                self.s3.download(bucket, key, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def copy_object(self, bucket: str, key: str, target_bucket: str, target_key: str) -> None:
        """Copy an object inside the store; its bytes do not come here."""
        with translated(self.access, bucket, key):
            self.s3.copy(bucket, key, target_bucket, target_key)

    def copy_prefix(
        self, bucket: str, prefix: str, target_bucket: str, target_prefix: str, paths: Iterable[str] | None = None
    ) -> int:
        """Copy a folder (or only these paths in it) inside the store; return the number of objects."""
        source, target = folder_prefix(prefix), folder_prefix(target_prefix)
        if paths is None:
            paths = [info.key.removeprefix(source) for info in self.list(bucket, source)]
        count = 0
        for path in paths:
            self.copy_object(bucket, source + path, target_bucket, target + path)
            count += 1
        return count

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object; there being none is fine."""
        try:
            with translated(self.access, bucket, key):
                self.client.delete_object(Bucket=bucket, Key=key)
        except NotFound as error:
            if error.reason == "BUCKET_NOT_FOUND":
                raise

    def delete_prefix(self, bucket: str, prefix: str) -> int:
        """Delete a folder with all that is in it; return the number of objects. Never a whole bucket."""
        folder = folder_prefix(prefix)
        if not folder:
            raise Invalid("A whole bucket is not deleted.", field="prefix")
        count, found = 0, self.list(bucket, folder)
        while batch := [{"Key": info.key} for info in islice(found, _DELETE_BATCH)]:
            with translated(self.access, bucket, folder):
                answer = self.client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
                failed = [entry["Key"] for entry in answer.get("Errors", [])]
            for key in {one["Key"] for one in batch} & set(failed):
                self.delete(bucket, key)  # alone, so that the store says why
            count += len(batch)
        return count


def _page(answer: Mapping[str, Any]) -> ListPage:
    """Return a page as the store gives it. Raises what a missing or wrong field raises."""
    objects = tuple(
        ObjectInfo(entry["Key"], int(entry["Size"]), entry.get("ETag", "").strip('"'), entry.get("LastModified"))
        for entry in answer.get("Contents", [])
    )
    if any(info.size < 0 for info in objects):
        raise ValueError("a negative size")
    prefixes = tuple(entry["Prefix"] for entry in answer.get("CommonPrefixes", []))
    return ListPage(objects, prefixes, answer["NextContinuationToken"] if answer["IsTruncated"] else "")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
