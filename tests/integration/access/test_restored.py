"""After a restore of an older database the gateways hear of changes again, and nothing that had ended is let in."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from modelry.access.v1 import access_pb2
from tests.integration.access.test_keys import record_of, wish

pytestmark = pytest.mark.integration


async def rotate(house, key):
    overlap = Duration()
    overlap.FromTimedelta(timedelta(0))
    request = access_pb2.RotateApiKeyRequest(api_key=key.id, overlap=overlap)
    return await house.access.RotateApiKey(request, metadata=house.key())


async def revoke(house, key):
    return await house.access.RevokeApiKey(access_pb2.RevokeApiKeyRequest(api_key=key.id), metadata=house.key())


async def restore_after(house, change):
    """Keep a copy of the database, let `change` happen, and bring the copy back."""
    data, copy = house.settings.home / "data", house.settings.home / "copy"
    await house.stop()
    shutil.copytree(data, copy)
    await house.start()
    await change()
    await house.stop()
    shutil.rmtree(data)
    copy.rename(data)
    await house.start()


async def test_a_revocation_after_a_restore_reaches_the_gateways(house, nats, caplog):
    made = await house.access.CreateApiKey(wish(models=["a"]), metadata=house.key())

    async def change():
        for _ in range(3):
            await rotate(house, made)

    await restore_after(house, change)
    revoked = await revoke(house, made)
    assert revoked.propagated
    record = await record_of(nats, made.secret)
    assert record["value"]["state"] == "REVOKED"
    assert revoked.state == access_pb2.ApiKey.REVOKED
    assert record["version"] > 4  # what the bucket held when the older copy came back
    assert "as after a restore" in caplog.text


async def test_what_had_ended_stays_ended_after_a_restore(house, nats):
    gone = await house.access.CreateApiKey(wish("gone"), metadata=house.key())
    replaced = await house.access.CreateApiKey(wish("replaced"), metadata=house.key())

    async def change():
        await revoke(house, gone)
        await rotate(house, replaced)

    await restore_after(house, change)
    assert (await revoke(house, gone)).state == access_pb2.ApiKey.REVOKED
    ended = (await record_of(nats, replaced.secret))["value"]["expire_time"]
    fresh = await rotate(house, replaced)
    assert fresh.propagated
    assert (await record_of(nats, gone.secret))["value"]["state"] == "REVOKED"
    assert (await record_of(nats, replaced.secret))["value"]["expire_time"] <= ended
    assert (await record_of(nats, fresh.secret))["value"]["expire_time"] is None
