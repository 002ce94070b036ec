"""The last admin key cannot be lost, and no secret is ever used again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import SecretStr
from sqlalchemy import update

from modelry.access.v1 import access_pb2
from modelry.common.v1 import options_pb2
from services.access.domain.keys import KeyState, hash_of
from services.access.store import KEYS
from services.chassis.data import execute
from services.chassis.errors import WrongState

pytestmark = pytest.mark.integration

ADMINS = access_pb2.ListApiKeysRequest(filter="role = ADMIN")


def wish(name, **fields):
    return access_pb2.CreateApiKeyRequest(api_key=access_pb2.ApiKey(name=name, role=options_pb2.ADMIN, **fields))


async def revoke(house, ref):
    return await house.access.RevokeApiKey(access_pb2.RevokeApiKeyRequest(api_key=ref), metadata=house.key())


async def active_admins(house):
    listed = await house.access.ListApiKeys(ADMINS, metadata=house.key())
    return [key for key in listed.api_keys if key.state == access_pb2.ApiKey.ACTIVE]


async def test_the_last_admin_key_cannot_be_revoked(any_house):
    house = any_house
    with pytest.raises(WrongState) as caught:
        await revoke(house, "admin")
    assert caught.value.reason == "LAST_ADMIN_KEY"
    second = await house.access.CreateApiKey(wish("second"), metadata=house.key())
    assert (await revoke(house, "admin")).state == access_pb2.ApiKey.REVOKED
    assert (await revoke(house, "admin")).state == access_pb2.ApiKey.REVOKED  # the same again changes nothing
    with pytest.raises(WrongState):
        await revoke(house, second.id)


async def test_a_key_whose_time_ends_does_not_stand_for_the_last_one(house):
    soon = Timestamp()
    soon.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    ending = await house.access.CreateApiKey(wish("for-an-hour", expire_time=soon), metadata=house.key())
    with pytest.raises(WrongState):
        await revoke(house, "admin")
    assert (await revoke(house, ending.id)).state == access_pb2.ApiKey.REVOKED


async def test_two_admins_who_revoke_each_other_at_once_leave_one(any_house):
    await any_house.access.CreateApiKey(wish("second"), metadata=any_house.key())
    outcomes = await asyncio.gather(*(revoke(any_house, ref) for ref in ("admin", "second")), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(WrongState) == 1
    assert len(await active_admins(any_house)) == 1


@pytest.mark.parametrize("state", [KeyState.REVOKED, KeyState.EXPIRED])
async def test_a_start_without_an_admin_key_makes_one_with_a_secret_of_its_own(house, state):
    """As a release that let the last one go left it, or a copy of the database that was restored."""
    file = house.settings.home / "admin.key"
    leaked = file.read_text().strip()
    await execute(house.database, update(KEYS).values(state=state))
    await house.restart()
    fresh = file.read_text().strip()
    assert fresh != leaked
    (admin,) = await active_admins(house)
    assert admin.display == fresh[:8] + "…"
    async with house.database_unit() as uow:
        secrets = {secret.hash: key.state for key in await uow.keys.select() for secret in key.secrets}
    assert secrets == {hash_of(leaked): state, hash_of(fresh): KeyState.ACTIVE}


async def test_a_given_key_that_was_used_before_is_not_used_again(make_settings, make_house):
    given = "mk-" + "b" * 40
    house = make_house(make_settings(bootstrap_key=SecretStr(given)))
    await house.start()
    try:
        assert (house.settings.home / "admin.key").read_text().strip() == given
        await execute(house.database, update(KEYS).values(state=KeyState.REVOKED))
        await house.restart()
        assert (house.settings.home / "admin.key").read_text().strip() != given
        assert len(await active_admins(house)) == 1
    finally:
        await house.stop()


async def test_a_file_left_by_another_database_gives_no_secret(make_settings, make_house):
    house = make_house(make_settings())
    file = house.settings.home / "admin.key"
    file.parent.mkdir(parents=True)
    file.write_text("mk-" + "c" * 40 + "\n")
    await house.start()
    try:
        assert file.read_text().strip() != "mk-" + "c" * 40
    finally:
        await house.stop()


async def test_an_admin_key_whose_time_is_over_is_none_although_that_is_not_stored(make_settings, make_house):
    house = make_house(make_settings(sweep_seconds=3600))
    await house.start()
    try:
        await execute(house.database, update(KEYS).values(expire_time=datetime.now(UTC) - timedelta(seconds=1)))
        await house.restart()
        assert len(await active_admins(house)) == 1
    finally:
        await house.stop()
