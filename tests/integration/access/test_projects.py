"""Projects see nothing of each other; the first start; what is noted of who did what."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.files import choose_port
from modelry.access.v1 import access_pb2, internal_pb2
from modelry.common.v1 import options_pb2
from services.access.domain.projects import DEFAULT_ID
from services.access.store import metadata
from services.chassis.auth import Role
from services.chassis.data import Database, differences
from services.chassis.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound
from services.chassis.objects import ObjectStore, StoreAccess

pytestmark = pytest.mark.integration


async def new_project(house, name="two", request_id=""):
    request = access_pb2.CreateProjectRequest(project=access_pb2.Project(name=name), request_id=request_id)
    return await house.access.CreateProject(request, metadata=house.key())


async def test_the_default_project_always_exists_with_its_bucket(any_house, s3_server):
    request = access_pb2.GetProjectRequest(project="default")
    project = await any_house.access.GetProject(request, metadata=any_house.key(role=Role.VIEWER))
    assert project.id == DEFAULT_ID
    store = ObjectStore(StoreAccess(s3_server.url, s3_server.access_key, s3_server.secret_key))
    end = time.monotonic() + 10
    while project.id not in await asyncio.to_thread(store.buckets) and time.monotonic() < end:
        await asyncio.sleep(0.05)
    assert project.id in await asyncio.to_thread(store.buckets)
    info = await any_house.access.GetServerInfo(
        access_pb2.GetServerInfoRequest(), metadata=any_house.key(role=Role.INFERENCE)
    )
    assert (info.project_name, info.bucket, info.role) == ("default", DEFAULT_ID, options_pb2.INFERENCE)


async def test_a_new_project_has_a_bucket_and_the_builtin_credential_for_it_alone(any_house, s3_server):
    project = await new_project(any_house)
    resolved = await any_house.internal.ResolveCredential(
        internal_pb2.ResolveCredentialRequest(), metadata=any_house.service(project.id)
    )
    assert (resolved.endpoint, resolved.bucket) == (s3_server.url, project.id)
    store = ObjectStore(StoreAccess(resolved.endpoint, resolved.access_key, resolved.secret_key, resolved.region))
    assert project.id in await asyncio.to_thread(store.buckets)
    with pytest.raises(Invalid) as caught:
        request = internal_pb2.ResolveCredentialRequest(credential="builtin", bucket=DEFAULT_ID)
        await any_house.internal.ResolveCredential(request, metadata=any_house.service(project.id))
    assert caught.value.field == "bucket"


async def test_names_are_unique_and_repeats_return_the_first(any_house):
    first = await new_project(any_house, request_id="once")
    answers = await asyncio.gather(*(new_project(any_house, request_id="once") for _ in range(20)))
    assert {answer.id for answer in answers} == {first.id}
    with pytest.raises(AlreadyExists):
        await new_project(any_house)


async def test_only_an_admin_sees_other_projects(any_house):
    two = await new_project(any_house)
    owner = any_house.key(two.id, Role.OWNER)
    listed = await any_house.access.ListProjects(access_pb2.ListProjectsRequest(), metadata=owner)
    assert [project.id for project in listed.projects] == [two.id]
    listed = await any_house.access.ListProjects(access_pb2.ListProjectsRequest(), metadata=any_house.key())
    assert [project.name for project in listed.projects] == ["two", "default"]
    with pytest.raises(NotFound):
        await any_house.access.GetProject(access_pb2.GetProjectRequest(project="default"), metadata=owner)
    with pytest.raises(Denied):
        await any_house.access.CreateProject(
            access_pb2.CreateProjectRequest(project=access_pb2.Project(name="three")), metadata=owner
        )
    resolved = await any_house.internal.ResolveProject(
        internal_pb2.ResolveProjectRequest(project="default"), metadata=any_house.service(two.id)
    )
    assert resolved.id == DEFAULT_ID


async def test_another_projects_things_do_not_exist(any_house):
    two = await new_project(any_house)
    key = await any_house.access.CreateApiKey(
        access_pb2.CreateApiKeyRequest(api_key=access_pb2.ApiKey(name="help")), metadata=any_house.key()
    )
    credential = await any_house.access.GetCredential(
        access_pb2.GetCredentialRequest(credential="builtin"), metadata=any_house.key()
    )
    stranger = any_house.key(two.id, Role.OWNER)
    access = any_house.access
    for call, request in (
        (access.GetApiKey, access_pb2.GetApiKeyRequest(api_key=key.id)),
        (access.RotateApiKey, access_pb2.RotateApiKeyRequest(api_key=key.id)),
        (access.RevokeApiKey, access_pb2.RevokeApiKeyRequest(api_key=key.id)),
        (access.GetCredential, access_pb2.GetCredentialRequest(credential=credential.id)),
        (access.VerifyCredential, access_pb2.VerifyCredentialRequest(credential=credential.id)),
        (access.DeleteCredential, access_pb2.DeleteCredentialRequest(credential=credential.id)),
        (any_house.internal.ResolveCredential, internal_pb2.ResolveCredentialRequest(credential=credential.id)),
    ):
        metadata_ = any_house.service(two.id) if "Resolve" in type(request).__name__ else stranger
        with pytest.raises(NotFound):
            await call(request, metadata=metadata_)


async def test_an_update_from_an_older_version_is_refused(any_house):
    async def update(etag, title):
        request = access_pb2.UpdateProjectRequest(project=access_pb2.Project(id="default", title=title, etag=etag))
        return await any_house.access.UpdateProject(request, metadata=any_house.key())

    first = await update("1", "Eins")
    assert (first.title, first.etag) == ("Eins", "2")
    with pytest.raises(Conflict):
        await update("1", "Zwei")
    assert (await update("", "Drei")).title == "Drei"


async def test_every_change_and_every_refusal_is_noted(any_house):
    owner = any_house.key(role=Role.OWNER, key_id="key-owner")
    wish = access_pb2.CreateApiKeyRequest(api_key=access_pb2.ApiKey(name="help"))
    made = await any_house.access.CreateApiKey(wish, metadata=owner)
    with pytest.raises(AlreadyExists):
        await any_house.access.CreateApiKey(wish, metadata=owner)
    await any_house.access.RevokeApiKey(access_pb2.RevokeApiKeyRequest(api_key="help"), metadata=owner)
    page = await any_house.access.ListAuditEntries(
        access_pb2.ListAuditEntriesRequest(filter="key_id = key-owner"), metadata=owner
    )
    assert [(entry.method, entry.resource_id, entry.outcome) for entry in page.audit_entries] == [
        ("RevokeApiKey", made.id, "OK"),
        ("CreateApiKey", "help", "ALREADY_EXISTS"),
        ("CreateApiKey", made.id, "OK"),
    ]


async def test_an_empty_required_field_is_named(house):
    with pytest.raises(Invalid) as caught:
        await house.access.CreateProject(access_pb2.CreateProjectRequest(), metadata=house.key())
    assert caught.value.field == "project"
    with pytest.raises(Invalid) as caught:
        request = access_pb2.CreateApiKeyRequest(api_key=access_pb2.ApiKey(title="x"))
        await house.access.CreateApiKey(request, metadata=house.key())
    assert caught.value.field == "api_key.name"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_the_migrations_make_the_tables_of_the_code(kind, tmp_path, request):
    from services.access.__main__ import MIGRATIONS

    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else f"sqlite:///{tmp_path}/access.db"
    database = await Database.open(url, "access", MIGRATIONS)
    try:
        async with database.engine.connect() as connection:
            assert await connection.run_sync(differences, metadata) == []
    finally:
        await database.close()


def started(settings, port):
    """The process, as the supervisor starts it."""
    home = settings.home
    (home / "secrets").mkdir(parents=True, exist_ok=True)
    for name in ("token_secret", "vault_key", "nats_password", "objects_secret_key"):
        (home / "secrets" / name).write_text(getattr(settings, name).get_secret_value())
    environment = {
        **os.environ,
        "MODELRY_HOME": str(home),
        "MODELRY_ACCESS_LISTEN": f"127.0.0.1:{port}",
        "MODELRY_NATS_URL": settings.nats_url,
        "MODELRY_OBJECTS_ENDPOINT": settings.objects_endpoint,
        "MODELRY_OBJECTS_ACCESS_KEY": settings.objects_access_key,
        "MODELRY_BOOTSTRAP_KEY": "mk-" + "b" * 40,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "services.access"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def serving(port, seconds):
    """Seconds until health says SERVING."""
    begun = time.monotonic()
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_reconnect_backoff_ms", 50)]) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=seconds
        )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    return time.monotonic() - begun


async def test_the_process_starts_ends_and_starts_again(make_settings):
    settings, port = make_settings(), choose_port()
    for expected in ("first", "second"):
        process = started(settings, port)
        try:
            seconds = serving(port, 20)
            process.send_signal(signal.SIGTERM if expected == "first" else signal.SIGINT)
            out, err = process.communicate(timeout=15)
        finally:
            process.kill()
        assert process.returncode == 0, err.decode()
        assert out == b""
        assert b"mk-" + b"b" * 40 not in err
        print(f"access: {expected} start ready in {seconds:.2f} s")
        assert seconds < 10  # 2 s is measured by the bench; a loaded machine may take longer
    assert (settings.home / "admin.key").read_text() == "mk-" + "b" * 40 + "\n"


async def test_a_wrong_bootstrap_key_stops_the_start(make_settings, make_house):
    house = make_house(make_settings(bootstrap_key="sk-wrong"))
    with pytest.raises(SystemExit) as caught:
        await house.start()
    assert caught.value.code == 2
