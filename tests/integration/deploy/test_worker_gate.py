"""A worker connects with its job's own login and may do nothing but report of that job."""

import asyncio
from types import SimpleNamespace

import nats
import pytest
from nats.errors import Error, NoRespondersError
from nats.js.errors import NoStreamResponseError
from pydantic import SecretStr

from deploy.local.testing import RealNats
from services.chassis.bus import Bus, WorkerGate, worker_login
from services.chassis.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
JOB, OTHER = "ftjob-01aaaa", "ftjob-01bbbb"


def settings_of(server: RealNats) -> Settings:
    return Settings(
        service="training",
        nats_url=server.url,
        nats_password=SecretStr(server.passwords["services"]),
        reconnect_max_seconds=0.2,
    )


@pytest.fixture
async def house(tmp_path):
    """A server of its own, a service on its bus, and the gate that the service runs."""
    with RealNats(tmp_path) as server:
        bus = Bus(settings_of(server))
        gate = WorkerGate(bus, SecretStr(server.token_secret))
        await bus.start()
        await gate.start()
        await bus.session()
        yield SimpleNamespace(server=server, bus=bus, gate=gate)
        await gate.stop()
        await bus.close()


async def connect(server: RealNats, job: str = JOB, complaints: list[str] | None = None, **changed: str):
    async def note(error: Exception) -> None:
        if complaints is not None:
            complaints.append(str(error))

    login = worker_login(SecretStr(server.token_secret), job) | changed
    return await nats.connect(server.url, allow_reconnect=False, connect_timeout=5, error_cb=note, **login)


async def told(client, complaints: list[str], words: str) -> None:
    async with asyncio.timeout(5):
        while not any(words in complaint.lower() for complaint in complaints):
            await client.flush()


async def until_connected(server: RealNats, seconds: float = 15):
    """As a worker does: try again until the gate answers."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await connect(server)
            except (Error, OSError):
                await asyncio.sleep(0.05)


async def test_a_worker_reports_of_its_own_job_and_hears_the_acknowledgement(house) -> None:
    worker = await until_connected(house.server)
    heard = asyncio.Queue()
    await house.bus.listen("modelry.heartbeat.>", lambda subject, data: heard.put_nowait((subject, data)))
    await house.bus.now().client.flush()  # the server knows of the listener before the worker speaks
    await worker.publish(f"modelry.heartbeat.training.{JOB}", b"1")
    assert await asyncio.wait_for(heard.get(), 5) == (f"modelry.heartbeat.training.{JOB}", b"1")
    acknowledged = await worker.jetstream().publish(f"modelry.work.training.{JOB}", b"{}")
    assert acknowledged.stream == "MODELRY_WORK"
    await worker.close()


@pytest.mark.parametrize(
    "subject", [f"modelry.work.training.{OTHER}", "modelry.events.proj-1.job.x.succeeded", "$KV.modelry_keys.key-1"]
)
async def test_a_worker_may_write_nothing_else(house, subject: str) -> None:
    complaints: list[str] = []
    worker = await until_connected(house.server)
    await worker.close()
    worker = await connect(house.server, complaints=complaints)
    await worker.publish(subject, b"{}")
    await worker.flush()
    await told(worker, complaints, "permissions violation for publish")
    await worker.close()


@pytest.mark.parametrize("subject", ["modelry.>", "_INBOX.>", f"_INBOX.{OTHER}.>", "$SYS.REQ.USER.AUTH"])
async def test_a_worker_may_hear_nothing_else(house, subject: str) -> None:
    complaints: list[str] = []
    await (await until_connected(house.server)).close()
    worker = await connect(house.server, complaints=complaints)
    await worker.subscribe(subject)
    await worker.flush()
    await told(worker, complaints, "permissions violation for subscription")
    await worker.close()


@pytest.mark.parametrize(
    "changed",
    [{"password": "wrong"}, {"user": OTHER}, {"user": "ftjob-*"}, {"user": ">"}, {"user": "services"}, {"user": ""}],
)
async def test_no_login_serves_for_another_user(house, changed: dict[str, str]) -> None:
    await (await until_connected(house.server)).close()
    with pytest.raises((Error, NoRespondersError), match="Auth"):
        await connect(house.server, **changed)


async def test_fixed_users_need_nobody_s_answer_and_workers_wait_for_one(house) -> None:
    await (await until_connected(house.server)).close()
    await house.gate.stop()
    await house.bus.close()
    client = await nats.connect(house.server.url, user="services", password=house.server.passwords["services"])
    await client.flush()
    await client.close()
    with pytest.raises(Error):
        await connect(house.server)


async def test_the_gate_answers_again_after_nats_was_away(house) -> None:
    await (await until_connected(house.server)).close()
    house.server.kill()
    house.server.start()
    worker = await until_connected(house.server)
    try:
        await worker.jetstream().publish(f"modelry.work.training.{JOB}", b"{}")
    except NoStreamResponseError:
        pytest.fail("the stream was gone")
    await worker.close()


async def test_two_gates_answer_once(house) -> None:
    second_bus = Bus(settings_of(house.server))
    second = WorkerGate(second_bus, SecretStr(house.server.token_secret))
    await second_bus.start()
    await second.start()
    await second_bus.session()
    for number in range(10):
        job = f"ftjob-{number}"
        client = await connect(house.server, job)
        await client.publish(f"modelry.heartbeat.training.{job}", b"")
        await client.flush()
        await client.close()
    await second.stop()
    await second_bus.close()
