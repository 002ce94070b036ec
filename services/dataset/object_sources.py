"""Places in object stores: what lies there, and which field of a request is wrong when nothing does."""

import time
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from services.chassis.errors import Denied, Invalid, ModelryError, NotFound, Unavailable
from services.chassis.objects import ObjectInfo, ObjectStore, StoreAccess, folder_prefix

MAX_OBJECTS = 10_000
_SHORT_SECONDS = 3.0
_LIST_SECONDS = 0.3


@dataclass(frozen=True)
class ObjectSource:
    """A source that can be opened: one object, or the folder of several."""

    access: StoreAccess
    bucket: str
    prefix: str
    name: str = ""
    """What the object is called in messages, when its key says nothing (an uploaded file)."""


@lru_cache(maxsize=64)
def open_store(access: StoreAccess, *, patient: bool = True) -> ObjectStore:
    """Return a store, made once: its client takes a while to make. An impatient one is asked while a caller waits."""
    return ObjectStore(access) if patient else ObjectStore(access, connect_seconds=_SHORT_SECONDS, tries=1)


def find_objects(store: ObjectStore, bucket: str, prefix: str) -> list[ObjectInfo]:
    """Return the object with this key, else all objects in the folder, in the order of their keys.

    Raises: NotFound, Denied, Unavailable; Invalid: there are more than `MAX_OBJECTS`.
    """
    single = _single(store, bucket, prefix) if prefix and not prefix.endswith("/") else None
    if single is not None:
        return [single]
    objects = _inside(store, bucket, prefix)
    if not objects:
        # Not every store lists an object at once after it took it.
        time.sleep(_LIST_SECONDS)
        objects = _inside(store, bucket, prefix)
    if not objects:
        raise NotFound(
            f"There is no object {prefix!r}, and none in a folder of that name, in bucket {bucket!r}.",
            reason="OBJECT_NOT_FOUND",
            metadata={"bucket": bucket, "key": prefix},
        )
    if len(objects) > MAX_OBJECTS:
        raise Invalid(f"The folder {prefix!r} holds more than {MAX_OBJECTS} objects.", reason="TOO_MANY_OBJECTS")
    return objects


def _inside(store: ObjectStore, bucket: str, prefix: str) -> list[ObjectInfo]:
    """Return the objects in a folder, one more than may be."""
    inside = (info for info in store.list(bucket, folder_prefix(prefix)) if not info.key.endswith("/"))
    return list(islice(inside, MAX_OBJECTS + 1))


def _single(store: ObjectStore, bucket: str, key: str) -> ObjectInfo | None:
    try:
        return store.find(bucket, key)
    except Denied:
        # The answer to HEAD has no body; that to a list says whether the key or its secret is wrong.
        store.list_page(bucket, key, page_size=1)
        raise


def named(error: ModelryError, path: str, *, own: bool) -> ModelryError:
    """Return a store's error with the field of the request that must change.

    A foreign store that does not answer is a wrong request (its endpoint is in the credential), ours is an outage.
    """
    if isinstance(error, NotFound):
        field = f"{path}bucket" if error.reason == "BUCKET_NOT_FOUND" else f"{path}prefix"
        return NotFound(f"{field}: {error.message}", reason=error.reason, metadata={**error.metadata, "field": field})
    if isinstance(error, Denied) or (isinstance(error, Unavailable) and not own):
        field = f"{path}credential"
        return Invalid(f"{field}: {error.message}", field=field, reason=error.reason, metadata=error.metadata)
    if isinstance(error, Invalid):
        inner = error.field if error.field in ("bucket", "endpoint") else "prefix"
        field = f"{path}{'credential' if inner == 'endpoint' else inner}"
        return Invalid(f"{field}: {error.message}", field=field, reason=error.reason, metadata=error.metadata)
    return error
