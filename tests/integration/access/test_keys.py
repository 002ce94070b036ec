"""Keys: made once, told to gateways, ended for good."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
import time

import nats as nats_py
import pytest

from modelry.access.v1 import access_pb2, internal_pb2
from modelry.common.v1 import options_pb2
from services.access.domain.projects import DEFAULT_ID
from services.chassis.auth import Role
from services.chassis.errors import AlreadyExists, Denied, Invalid, NotFound, WrongState

pytestmark = pytest.mark.integration


def digest(secret):
    return hashlib.sha256(secret.encode()).hexdigest()


async def until(look, seconds=10.0):
    """Look again and again until it is true; the last answer."""
    end = time.monotonic() + seconds
    while not (answer := await look()) and time.monotonic() < end:
        await asyncio.sleep(0.05)
    return answer


async def record_of(nats, secret):
    client = await nats_py.connect(nats.url, user="gateway", password=nats.passwords["gateway"])
    try:
        entry = await (await client.jetstream().key_value("modelry_keys")).get(digest(secret))
        return json.loads(entry.value)
    except (nats_py.js.errors.KeyNotFoundError, nats_py.js.errors.BucketNotFoundError):
        return None
    finally:
        await client.close()


def wish(name="help", **fields):
    return access_pb2.CreateApiKeyRequest(api_key=access_pb2.ApiKey(name=name, **fields))


async def test_a_new_key_is_known_to_gateways_when_it_is_answered(any_house, nats):
    made = await any_house.access.CreateApiKey(
        wish(role=options_pb2.DEVELOPER, models=["help"], addresses=["10.0.0.1"]), metadata=any_house.key()
    )
    assert made.propagated
    record = (await record_of(nats, made.secret))["value"]
    assert record == {
        "key_id": made.id, "project": DEFAULT_ID, "project_name": "default", "role": "DEVELOPER", "state": "ACTIVE",
        "models": ["help"], "addresses": ["10.0.0.1/32"], "expire_time": None, "version": 1,
    }  # fmt: skip
    shown = await any_house.access.GetApiKey(access_pb2.GetApiKeyRequest(api_key="help"), metadata=any_house.key())
    assert shown.secret == ""
    assert shown.propagated
    assert made.secret.startswith(shown.display.removesuffix("…"))


async def test_a_revoked_key_stays_a_record_and_revoking_again_is_the_same(any_house, nats):
    made = await any_house.access.CreateApiKey(wish(), metadata=any_house.key())
    request = access_pb2.RevokeApiKeyRequest(api_key=made.id)
    for _ in range(2):
        revoked = await any_house.access.RevokeApiKey(request, metadata=any_house.key())
        assert (revoked.state, revoked.propagated, revoked.version) == (access_pb2.ApiKey.REVOKED, True, 2)
    assert (await record_of(nats, made.secret))["value"]["state"] == "REVOKED"
    with pytest.raises(WrongState):
        await any_house.access.RotateApiKey(access_pb2.RotateApiKeyRequest(api_key=made.id), metadata=any_house.key())


async def test_a_rotated_key_works_with_both_secrets_for_the_overlap(house, nats):
    made = await house.access.CreateApiKey(wish(), metadata=house.key())
    request = access_pb2.RotateApiKeyRequest(api_key="help", request_id="once")
    request.overlap.FromSeconds(3600)
    rotated = await house.access.RotateApiKey(request, metadata=house.key())
    assert rotated.secret not in ("", made.secret)
    old, new = await record_of(nats, made.secret), await record_of(nats, rotated.secret)
    assert old["value"]["expire_time"] == pytest.approx(time.time() + 3600, abs=30)
    assert (new["value"]["expire_time"], new["value"]["key_id"]) == (None, made.id)
    again = await house.access.RotateApiKey(request, metadata=house.key())
    assert (again.secret, again.version) == ("", 2)


async def test_the_same_create_twenty_times_at_once_makes_one_key(any_house):
    request = wish()
    request.request_id = "once"
    answers = await asyncio.gather(
        *(any_house.access.CreateApiKey(request, metadata=any_house.key()) for _ in range(20))
    )
    assert len({answer.id for answer in answers}) == 1
    assert len([answer for answer in answers if answer.secret]) == 1
    listed = await any_house.access.ListApiKeys(access_pb2.ListApiKeysRequest(), metadata=any_house.key())
    assert [key.name for key in listed.api_keys] == ["help", "admin"]
    other = wish("other")
    other.request_id = "once"
    with pytest.raises(AlreadyExists) as caught:
        await any_house.access.CreateApiKey(other, metadata=any_house.key())
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_without_nats_a_revocation_says_so_and_arrives_later(make_settings, make_house, nats):

    house = make_house(make_settings(propagation_seconds=0.3))
    await house.start()
    try:
        made = await house.access.CreateApiKey(wish(), metadata=house.key())
        nats.stop()
        revoked = await house.access.RevokeApiKey(access_pb2.RevokeApiKeyRequest(api_key=made.id), metadata=house.key())
        assert (revoked.state, revoked.propagated) == (access_pb2.ApiKey.REVOKED, False)
        nats.start()

        async def arrived():
            request = access_pb2.GetApiKeyRequest(api_key=made.id)
            return (await house.access.GetApiKey(request, metadata=house.key())).propagated

        assert await until(arrived)
        assert (await record_of(nats, made.secret))["value"]["state"] == "REVOKED"
    finally:
        await house.stop()


async def test_a_wiped_bucket_is_filled_again(house, nats):
    made = await house.access.CreateApiKey(wish(), metadata=house.key())
    await house.access.RevokeApiKey(access_pb2.RevokeApiKeyRequest(api_key=made.id), metadata=house.key())
    nats.wipe()
    nats.start()

    async def there():
        return await record_of(nats, made.secret)

    record = await until(there, 20)
    assert (record["value"]["state"], record["version"]) == ("REVOKED", 2)


async def test_a_key_whose_time_is_over_is_told(house, nats):
    request = wish()
    request.api_key.expire_time.FromMilliseconds(int(time.time() * 1000) + 300)
    made = await house.access.CreateApiKey(request, metadata=house.key())

    async def over():
        return (await record_of(nats, made.secret))["value"]["state"] == "EXPIRED"

    assert await until(over)
    shown = await house.access.GetApiKey(access_pb2.GetApiKeyRequest(api_key=made.id), metadata=house.key())
    assert shown.state == access_pb2.ApiKey.EXPIRED


async def test_an_owner_neither_makes_nor_sees_nor_ends_what_is_above(house):
    owner = house.key(role=Role.OWNER)
    with pytest.raises(Denied):
        await house.access.CreateApiKey(wish(role=options_pb2.ADMIN), metadata=owner)
    listed = await house.access.ListApiKeys(access_pb2.ListApiKeysRequest(), metadata=owner)
    assert list(listed.api_keys) == []
    for call, request in (
        (house.access.GetApiKey, access_pb2.GetApiKeyRequest(api_key="admin")),
        (house.access.RevokeApiKey, access_pb2.RevokeApiKeyRequest(api_key="admin")),
    ):
        with pytest.raises(NotFound):
            await call(request, metadata=owner)


async def test_a_key_of_a_foreign_project_is_refused_by_name(house):
    with pytest.raises(Invalid) as refused:
        await house.access.CreateApiKey(wish(project_id="proj-another"), metadata=house.key())
    assert refused.value.field == "api_key.project_id"
    same = await house.access.CreateApiKey(wish(project_id=DEFAULT_ID), metadata=house.key())
    assert same.project_id == DEFAULT_ID


async def test_lists_are_paged_filtered_and_ordered(any_house):
    for number in range(5):
        await any_house.access.CreateApiKey(wish(f"key-{number}"), metadata=any_house.key(role=Role.OWNER))
    names, token = [], ""
    while True:
        request = access_pb2.ListApiKeysRequest(page_size=2, page_token=token, order_by="name")
        page = await any_house.access.ListApiKeys(request, metadata=any_house.key(role=Role.OWNER))
        names += [key.name for key in page.api_keys]
        token = page.next_page_token
        if not token:
            break
    assert names == [f"key-{number}" for number in range(5)]
    request = access_pb2.ListApiKeysRequest(filter='name = "key-3" AND state = ACTIVE')
    page = await any_house.access.ListApiKeys(request, metadata=any_house.key(role=Role.OWNER))
    assert [key.name for key in page.api_keys] == ["key-3"]
    with pytest.raises(Invalid) as caught:
        request = access_pb2.ListApiKeysRequest(filter="secrets = x")
        await any_house.access.ListApiKeys(request, metadata=any_house.key())
    assert caught.value.field == "filter"


async def test_a_deployment_gets_one_key(any_house):
    request = internal_pb2.IssueDeploymentKeyRequest(deployment_id="dep-1", models=["help"], name="help")
    answers = await asyncio.gather(
        *(any_house.internal.IssueDeploymentKey(request, metadata=any_house.service()) for _ in range(5))
    )
    assert len({answer.id for answer in answers}) == 1
    (made,) = [answer for answer in answers if answer.secret]
    assert (made.deployment_id, list(made.models), made.role) == ("dep-1", ["help"], options_pb2.INFERENCE)
    for _ in range(2):
        await any_house.internal.RevokeDeploymentKey(
            internal_pb2.RevokeDeploymentKeyRequest(deployment_id="dep-1"), metadata=any_house.service()
        )
    shown = await any_house.access.GetApiKey(access_pb2.GetApiKeyRequest(api_key=made.id), metadata=any_house.key())
    assert shown.state == access_pb2.ApiKey.REVOKED


async def test_a_deployments_key_finds_another_name_where_its_own_is_taken(house):
    await house.access.CreateApiKey(wish("help"), metadata=house.key())
    request = internal_pb2.IssueDeploymentKeyRequest(deployment_id="dep-1", name="help")
    made = await house.internal.IssueDeploymentKey(request, metadata=house.service())
    assert (made.name, bool(made.secret)) == ("dep-1", True)


async def test_the_first_admin_key_lies_in_a_private_file_and_is_made_once(house, nats):
    file = house.settings.home / "admin.key"
    secret = file.read_text().strip()
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600

    async def known():
        return await record_of(nats, secret)

    record = (await until(known))["value"]
    assert (record["role"], record["project"], record["state"]) == ("ADMIN", "", "ACTIVE")
    await house.restart()
    assert file.read_text().strip() == secret
    listed = await house.access.ListApiKeys(access_pb2.ListApiKeysRequest(filter="role = ADMIN"), metadata=house.key())
    assert [(key.name, key.project_id) for key in listed.api_keys] == [("admin", "")]


async def test_no_secret_is_in_the_database(house):
    made = await house.access.CreateApiKey(wish(), metadata=house.key())
    await house.stop()
    data = b"".join(path.read_bytes() for path in (house.settings.home / "data").iterdir())
    assert made.secret.encode() not in data
    assert digest(made.secret).encode() in data
    await house.start()
