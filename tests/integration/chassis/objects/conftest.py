"""A bucket of its own for every test, on the real embedded server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from deploy.local.testing import RealObjects
from services.chassis.objects import ObjectStore, StoreAccess


@pytest.fixture
def access(s3_server: RealObjects) -> StoreAccess:
    """The server's endpoint and keys."""
    return StoreAccess(s3_server.url, s3_server.access_key, s3_server.secret_key)


@pytest.fixture
def store(access: StoreAccess) -> ObjectStore:
    """The server."""
    return ObjectStore(access)


@pytest.fixture
def bucket(store: ObjectStore) -> Iterator[str]:
    """An empty bucket."""
    name = f"test-{secrets.token_hex(4)}"
    store.ensure_bucket(name)
    yield name
    for info in store.list(name):
        store.delete(name, info.key)
