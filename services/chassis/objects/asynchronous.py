"""The store for event loops: the same words, each done in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from services.chassis.objects.access import StoreAccess
from services.chassis.objects.manifest import upload_folder
from services.chassis.objects.store import ObjectStore

P = ParamSpec("P")
R = TypeVar("R")


def _threaded(
    operation: Callable[Concatenate[ObjectStore, P], R],
) -> Callable[Concatenate[AsyncObjectStore, P], Coroutine[Any, Any, R]]:
    """Return the method of `AsyncObjectStore` that does an operation of the blocking store in a thread."""

    @wraps(operation)
    async def call(self: AsyncObjectStore, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(operation, self.sync, *args, **kwargs)

    return call


class AsyncObjectStore:
    """Wrap a store; `.sync` is the blocking one, for code that already runs in a thread."""

    def __init__(self, store: ObjectStore | StoreAccess) -> None:
        """Take a store or what is needed to make one."""
        self.sync = ObjectStore(store) if isinstance(store, StoreAccess) else store

    ensure_bucket = _threaded(ObjectStore.ensure_bucket)
    buckets = _threaded(ObjectStore.buckets)
    head = _threaded(ObjectStore.head)
    find = _threaded(ObjectStore.find)
    list_page = _threaded(ObjectStore.list_page)
    put_bytes = _threaded(ObjectStore.put_bytes)
    get_bytes = _threaded(ObjectStore.get_bytes)
    put_json = _threaded(ObjectStore.put_json)
    get_json = _threaded(ObjectStore.get_json)
    upload_file = _threaded(ObjectStore.upload_file)
    download_file = _threaded(ObjectStore.download_file)
    copy_prefix = _threaded(ObjectStore.copy_prefix)
    delete = _threaded(ObjectStore.delete)
    delete_prefix = _threaded(ObjectStore.delete_prefix)
    upload_folder = _threaded(upload_folder)
