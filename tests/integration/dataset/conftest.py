"""A dataset service with an empty home."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.local.files import choose_port
from deploy.local.testing import RealNats, RealObjects
from modelry.access.v1 import internal_pb2_grpc
from modelry.dataset.v1 import dataset_pb2_grpc
from modelry.dataset.v1.internal_pb2_grpc import DatasetInternalServiceStub
from services.chassis.auth import TokenIssuer
from services.chassis.objects import ObjectStore, StoreAccess
from services.chassis.rpc import RpcServer
from tests.integration.dataset.world import OTHER, PROJECT, ROOT, Access, DatasetProcess, Listen, World


@pytest.fixture
async def world(tmp_path: Path, nats_server: RealNats, s3_server: RealObjects) -> AsyncIterator[World]:
    """A service with an empty home. Its access stand-in knows `builtin`, `team`, `wrong` and `away`."""
    issuer = TokenIssuer(secrets.token_hex(32))
    secret = issuer._secret
    access = Access()
    store = StoreAccess(s3_server.url, s3_server.access_key, s3_server.secret_key, s3_server.region)
    bucket = f"team-{secrets.token_hex(4)}"
    ObjectStore(store).ensure_bucket(bucket)
    for name in ("builtin", "team"):
        access.known[PROJECT, name] = store
    access.known[OTHER, "builtin"] = store
    access.buckets = {"builtin": bucket}
    access.known[PROJECT, "wrong"] = StoreAccess(s3_server.url, s3_server.access_key, "no-such-secret")
    access.known[PROJECT, "away"] = StoreAccess(f"http://127.0.0.1:{choose_port()}", "a", "b")
    server = RpcServer(Listen("127.0.0.1:0"), issuer)
    server.add(
        access,
        internal_pb2_grpc.add_AccessInternalServiceServicer_to_server,
        "modelry.access.v1.AccessInternalService",
    )
    access_port = await server.start()
    port = choose_port()
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'sdk'}",
        "MODELRY_HOME": str(tmp_path),
        "MODELRY_DATASET_LISTEN": f"127.0.0.1:{port}",
        "MODELRY_ACCESS_ADDRESS": f"127.0.0.1:{access_port}",
        "MODELRY_NATS_URL": nats_server.url,
        "MODELRY_NATS_PASSWORD": nats_server.passwords["services"],
        "MODELRY_OBJECTS_ENDPOINT": s3_server.url,
        "MODELRY_OBJECTS_ACCESS_KEY": s3_server.access_key,
        "MODELRY_OBJECTS_SECRET_KEY": s3_server.secret_key,
        "MODELRY_OBJECTS_BUCKET": s3_server.bucket,
        "MODELRY_TOKEN_SECRET": secret,
        "MODELRY_HOLD_SECONDS": "2",
        "MODELRY_RECONCILE_SECONDS": "0.2",
    }
    service = DatasetProcess(tmp_path, environment, issuer, port)
    await service.start()
    channel = service.channel()
    stubs = (dataset_pb2_grpc.DatasetServiceStub(channel), DatasetInternalServiceStub(channel))
    try:
        yield World(service, access, ObjectStore(store), nats_server, bucket, *stubs)
    finally:
        await service.close()
        await server.stop(0)
