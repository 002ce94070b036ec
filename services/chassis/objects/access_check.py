"""What a pair of keys may do in a bucket, found out by doing it."""

import secrets
from collections.abc import Callable

from services.chassis.errors import Denied, NotFound
from services.chassis.objects.access import StoreAccess
from services.chassis.objects.store import ObjectStore, folder_prefix

_CONTENT = b"Modelry checks whether it may write here. This object may be deleted.\n"
# With these the store knows no such caller at all: no single right is missing.
_WRONG_KEYS = ("UNKNOWN_ACCESS_KEY", "WRONG_SECRET_KEY", "EXPIRED_ACCESS_KEY", "CLOCK_SKEWED")


def check_rights(access: StoreAccess, bucket: str, prefix: str = "") -> dict[str, str]:
    """Try list, put, get and delete under a prefix; each right maps to "" or to why it is missing, in words.

    The one object that it writes is deleted again (and stays, named, if only deleting is refused). Blocking.
    Raises: Unavailable: nobody answers at the endpoint. NotFound: no such bucket. Denied: the keys are wrong.
    Invalid: endpoint or bucket name cannot be right.
    """
    store = ObjectStore(access, connect_seconds=4, tries=2)
    folder = folder_prefix(prefix)
    key = f"{folder}.modelry-check-{secrets.token_hex(8)}"
    return {
        "list": _try(lambda: store.list_page(bucket, folder, page_size=1)),
        "put": _try(lambda: store.put_bytes(bucket, key, _CONTENT, "text/plain")),
        "get": _try(lambda: store.get_bytes(bucket, key)),
        "delete": _try(lambda: store.delete(bucket, key)),
    }


def _try(operation: Callable[[], object]) -> str:
    try:
        operation()
    except Denied as error:
        if error.reason in _WRONG_KEYS:
            raise
        return error.message
    except NotFound as error:
        if error.reason == "BUCKET_NOT_FOUND":
            raise
    return ""
