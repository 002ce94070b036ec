"""The store for event loops: the same words, each done in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from services.chassis.objects.access import StoreAccess
from services.chassis.objects.manifest import Manifest, upload_folder
from services.chassis.objects.store import ListPage, ObjectInfo, ObjectStore


class AsyncObjectStore:
    """Wrap a store; `.sync` is the blocking one, for code that already runs in a thread."""

    def __init__(self, store: ObjectStore | StoreAccess) -> None:
        """Take a store or what is needed to make one."""
        self.sync = ObjectStore(store) if isinstance(store, StoreAccess) else store

    async def ensure_bucket(self, bucket: str) -> None:
        """See `ObjectStore.ensure_bucket`."""
        await asyncio.to_thread(self.sync.ensure_bucket, bucket)

    async def buckets(self) -> Sequence[str]:
        """See `ObjectStore.buckets`."""
        return await asyncio.to_thread(self.sync.buckets)

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """See `ObjectStore.head`."""
        return await asyncio.to_thread(self.sync.head, bucket, key)

    async def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """See `ObjectStore.find`."""
        return await asyncio.to_thread(self.sync.find, bucket, key)

    async def list_page(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", page_size: int = 1000, token: str = ""
    ) -> ListPage:
        """See `ObjectStore.list_page`."""
        return await asyncio.to_thread(
            self.sync.list_page, bucket, prefix, delimiter=delimiter, page_size=page_size, token=token
        )

    async def list(self, bucket: str, prefix: str = "") -> Sequence[ObjectInfo]:
        """Return all of `ObjectStore.list` at once."""
        return await asyncio.to_thread(lambda: tuple(self.sync.list(bucket, prefix)))

    async def put_bytes(
        self, bucket: str, key: str, data: bytes, content_type: str = "application/octet-stream"
    ) -> None:
        """See `ObjectStore.put_bytes`."""
        await asyncio.to_thread(self.sync.put_bytes, bucket, key, data, content_type)

    async def get_bytes(self, bucket: str, key: str) -> bytes:
        """See `ObjectStore.get_bytes`."""
        return await asyncio.to_thread(self.sync.get_bytes, bucket, key)

    async def put_json(self, bucket: str, key: str, content: Any) -> None:
        """See `ObjectStore.put_json`."""
        await asyncio.to_thread(self.sync.put_json, bucket, key, content)

    async def get_json(self, bucket: str, key: str) -> Any:
        """See `ObjectStore.get_json`."""
        return await asyncio.to_thread(self.sync.get_json, bucket, key)

    async def upload_file(self, path: Path, bucket: str, key: str) -> ObjectInfo:
        """See `ObjectStore.upload_file`."""
        return await asyncio.to_thread(self.sync.upload_file, path, bucket, key)

    async def download_file(self, bucket: str, key: str, path: Path) -> None:
        """See `ObjectStore.download_file`."""
        await asyncio.to_thread(self.sync.download_file, bucket, key, path)

    async def upload_folder(self, bucket: str, prefix: str, folder: Path) -> Manifest:
        """See `upload_folder`."""
        return await asyncio.to_thread(upload_folder, self.sync, bucket, prefix, folder)

    async def copy_prefix(
        self, bucket: str, prefix: str, target_bucket: str, target_prefix: str, paths: Iterable[str] | None = None
    ) -> int:
        """See `ObjectStore.copy_prefix`."""
        return await asyncio.to_thread(self.sync.copy_prefix, bucket, prefix, target_bucket, target_prefix, paths)

    async def delete(self, bucket: str, key: str) -> None:
        """See `ObjectStore.delete`."""
        await asyncio.to_thread(self.sync.delete, bucket, key)

    async def delete_prefix(self, bucket: str, prefix: str) -> int:
        """See `ObjectStore.delete_prefix`."""
        return await asyncio.to_thread(self.sync.delete_prefix, bucket, prefix)
