"""Credentials against a real store: right ones, wrong ones, and stores that are not there."""

from __future__ import annotations

import pytest

from modelry.access.v1 import access_pb2, internal_pb2
from services.access.domain.projects import DEFAULT_ID
from services.chassis.auth import Role
from services.chassis.errors import Denied, Invalid, NotFound, Unavailable, WrongState

pytestmark = pytest.mark.integration

SECRET = "a secret that is nowhere shown"


async def create(house, s3_server, **changes):
    fields = {
        "name": "own", "endpoint": s3_server.url, "access_key": s3_server.access_key,
        "secret_key": s3_server.secret_key, "bucket": s3_server.bucket,
    }  # fmt: skip
    request = access_pb2.CreateCredentialRequest(credential=access_pb2.Credential(**{**fields, **changes}))
    return await house.access.CreateCredential(request, metadata=house.key())


async def verify(house, credential="own", **fields):
    request = access_pb2.VerifyCredentialRequest(credential=credential, **fields)
    return await house.access.VerifyCredential(request, metadata=house.key(role=Role.DEVELOPER))


async def test_a_right_credential_is_verified_by_doing(any_house, s3_server):
    made = await create(any_house, s3_server)
    assert (made.secret_key, made.HasField("verify_time")) == ("", False)
    answer = await verify(any_house, prefix="some/folder")
    assert answer.verified
    assert [(right.name, right.granted) for right in answer.rights] == [
        ("list", True), ("put", True), ("get", True), ("delete", True),
    ]  # fmt: skip
    shown = await any_house.access.GetCredential(
        access_pb2.GetCredentialRequest(credential="own"), metadata=any_house.key(role=Role.VIEWER)
    )
    assert shown.HasField("verify_time")


async def test_the_builtin_credential_is_verified_on_the_projects_bucket(house):
    assert (await verify(house, "builtin")).verified
    with pytest.raises(Invalid) as caught:
        await verify(house, "builtin", bucket="another-bucket")
    assert caught.value.field == "bucket"


async def test_a_wrong_secret_is_denied_in_the_stores_words(house, s3_server):
    await create(house, s3_server, secret_key=SECRET)
    with pytest.raises(Denied) as caught:
        await verify(house)
    assert SECRET not in caught.value.message


async def test_an_unreachable_store_is_unavailable(house, s3_server):
    # `localtest.invalid` is a name that nobody has.
    await create(house, s3_server, endpoint="http://localtest.invalid:9000")
    with pytest.raises(Unavailable) as caught:
        await verify(house)
    assert caught.value.reason == "STORE_UNREACHABLE"


@pytest.mark.parametrize(
    "endpoint",
    [
        *("http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9", "http://169.254.169.254", "http://0.0.0.0:9"),
        *("http://[fe80::1]:9", "http://[::ffff:127.0.0.1]:9", "http://100.100.100.200", "http://[fd00:ec2::254]"),
    ],
)
async def test_no_credential_leads_to_what_only_this_machine_can_ask(house, s3_server, endpoint):
    with pytest.raises(Invalid) as caught:
        await create(house, s3_server, endpoint=endpoint)
    assert (caught.value.field, caught.value.reason) == ("credential.endpoint", "ENDPOINT_NOT_ALLOWED")


async def test_a_missing_bucket_is_named(house, s3_server):
    await create(house, s3_server, bucket="")
    with pytest.raises(NotFound) as caught:
        await verify(house, bucket="not-there")
    assert "not-there" in caught.value.message
    with pytest.raises(Invalid) as caught:
        await verify(house)
    assert caught.value.field == "bucket"


async def test_services_get_the_secret_and_nobody_else(any_house, s3_server):
    made = await create(any_house, s3_server)
    request = internal_pb2.ResolveCredentialRequest(credential="own")
    resolved = await any_house.internal.ResolveCredential(request, metadata=any_house.service())
    assert (resolved.credential_id, resolved.secret_key, resolved.bucket) == (
        made.id, s3_server.secret_key, s3_server.bucket,
    )  # fmt: skip
    with pytest.raises(Denied):
        await any_house.internal.ResolveCredential(request, metadata=any_house.key())


async def test_an_update_seals_the_new_secret_and_forgets_the_verification(any_house, s3_server):
    made = await create(any_house, s3_server)
    await verify(any_house)
    request = access_pb2.UpdateCredentialRequest(
        credential=access_pb2.Credential(id=made.id, secret_key=SECRET, title="t")
    )
    updated = await any_house.access.UpdateCredential(request, metadata=any_house.key())
    assert (updated.title, updated.HasField("verify_time"), updated.secret_key) == ("t", False, "")
    request = internal_pb2.ResolveCredentialRequest(credential=made.id)
    resolved = await any_house.internal.ResolveCredential(request, metadata=any_house.service())
    assert (resolved.secret_key, resolved.access_key) == (SECRET, s3_server.access_key)


async def test_the_builtin_credential_cannot_be_changed_or_deleted(house):
    for call, request in (
        (
            house.access.UpdateCredential,
            access_pb2.UpdateCredentialRequest(credential=access_pb2.Credential(id="builtin", title="x")),
        ),
        (house.access.DeleteCredential, access_pb2.DeleteCredentialRequest(credential="builtin")),
    ):
        with pytest.raises(WrongState):
            await call(request, metadata=house.key())
    shown = await house.access.GetCredential(
        access_pb2.GetCredentialRequest(credential="builtin"), metadata=house.key()
    )
    assert (shown.bucket, shown.access_key, shown.secret_key) == (DEFAULT_ID, "", "")


async def test_a_deleted_credential_is_gone_and_its_name_free(any_house, s3_server):
    await create(any_house, s3_server)
    await any_house.access.DeleteCredential(
        access_pb2.DeleteCredentialRequest(credential="own"), metadata=any_house.key()
    )
    with pytest.raises(NotFound):
        await verify(any_house)
    await create(any_house, s3_server)


async def test_no_secret_is_in_the_database_the_log_or_an_event(house, s3_server, caplog):
    await create(house, s3_server, secret_key=SECRET)
    await house.stop()
    data = b"".join(path.read_bytes() for path in (house.settings.home / "data").iterdir())
    assert SECRET.encode() not in data
    assert SECRET not in caplog.text
    await house.start()


async def test_a_secret_sealed_with_another_key_does_not_open(make_settings, make_house, s3_server):
    house = make_house(make_settings())
    await house.start()
    await create(house, s3_server)
    await house.stop()
    other = make_house(make_settings(token_secret=house.settings.token_secret))
    await other.start()
    try:
        with pytest.raises(WrongState) as caught:
            await other.internal.ResolveCredential(
                internal_pb2.ResolveCredentialRequest(credential="own"), metadata=other.service()
            )
        assert caught.value.reason == "SECRET_SEALED"
    finally:
        await other.stop()
