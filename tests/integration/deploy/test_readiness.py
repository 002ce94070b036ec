"""Readiness in two lists, and dead letters, on one whole installation that stands on servers which these tests stop."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import nats
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.testing import RealNats, RealObjects
from deploy.local.testing_postgres import RealPostgres
from modelry.client import ModelryError
from services.chassis.events import Event
from tests.stack import Stack, modelry

pytestmark = pytest.mark.integration

SOON = 60.0
SERVICES = {"access", "dataset", "evaluation", "registry", "serving", "training"}
SETTINGS = """
nats_url = "{nats.url}"
nats_password = "{nats_password}"
database_url = "{database}"
objects_endpoint = "{store.url}"
objects_access_key = "{store.access_key}"
objects_secret_key = "{store.secret_key}"
objects_bucket = "{store.bucket}"
probe_seconds = 0.5
events_bytes = 1048576
retry_min_seconds = 0.05
retry_max_seconds = 0.3

[access]
sweep_seconds = 0.5

[gateway]
nats_user = "services"
"""


@dataclass
class House:
    """The installation, and what it stands on."""

    stack: Stack
    nats: RealNats
    store: RealObjects
    postgres: RealPostgres
    database: str
    key: str = ""

    def readyz(self) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        try:
            with urllib.request.urlopen(f"{self.stack.http}/readyz", timeout=30) as answer:
                return int(answer.status), json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def lacking(self, word: str) -> set[tuple[str, str]]:
        """(service, name) of a list of `/readyz`; each has since when."""
        lacks = self.readyz()[1][word]
        assert all(lack["since_time"].endswith("Z") for lack in lacks)
        return {(lack["service"], lack["name"]) for lack in lacks}

    def status(self) -> dict[str, dict[str, Any]]:
        """The processes of `modelry status --json` by name."""
        done = modelry("status", "--json", home=self.stack.home)
        return {row["name"]: row for row in json.loads(done.stdout)["processes"]}

    def grpc_states(self) -> set[int]:
        """What gRPC health says of all services."""
        return {self.grpc_health(name) for name in SERVICES}

    def grpc_health(self, service: str) -> int:
        """What gRPC health says of a service."""
        address = f"127.0.0.1:{self.stack.state['ports'][service]}"
        with grpc.insecure_channel(address) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        return int(answer.status)

    def known_key_answers(self) -> bool:
        """Whether a call with a key that is known is let in."""
        request = urllib.request.Request(
            f"{self.stack.http}/v1/models", headers={"Authorization": f"Bearer {self.key}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status) == 200

    def sql(self, statement: str) -> None:
        """Change something behind a service's back."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute(statement.encode())

    def well(self) -> bool:
        """Whether nothing at all is lacking."""
        status, body = self.readyz()
        return status == 200 and not body["cannot_answer"] and not body["degraded"]


def until(true: Callable[[], bool], seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "not so in time"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("readiness")
    postgres = RealPostgres()
    home = folder / "home"
    home.mkdir()
    with RealNats(folder / "nats") as nats_server, RealObjects(folder / "s3") as store:
        postgres.start()
        database = postgres.create_database()
        text = SETTINGS.format(
            nats=nats_server, nats_password=nats_server.passwords["services"], database=database, store=store
        )
        (home / "modelry.toml").write_text(text, "utf-8")
        made = House(Stack(home), nats_server, store, postgres, database)
        try:
            made.stack.up()
            until(made.well)
            made.key = made.stack.client.create_api_key(api_key={"name": "known", "role": "OWNER"}).secret
            assert made.known_key_answers()
            yield made
        finally:
            made.stack.down()
            postgres.remove()


def test_without_the_database_nothing_is_ready_and_all_is_well_once_it_is_back(house: House) -> None:
    house.postgres.stop()
    try:
        until(lambda: house.lacking("cannot_answer") >= {(name, "database") for name in SERVICES})
        assert house.readyz()[0] == 503
        until(lambda: house.grpc_states() == {health_pb2.HealthCheckResponse.NOT_SERVING})
        row = house.status()["training"]
        assert row["state"] == "not ready"
        assert row["cannot_answer"][0]["name"] == "database" and row["cannot_answer"][0]["message"]
        assert house.known_key_answers()
    finally:
        house.postgres.start()
    until(house.well)
    until(lambda: house.grpc_states() == {health_pb2.HealthCheckResponse.SERVING})


def test_without_the_store_it_is_degraded_and_answers(house: House) -> None:
    house.store.stop()
    try:
        until(lambda: house.lacking("degraded") >= {(name, "store") for name in SERVICES})
        assert house.readyz()[0] == 200
        assert house.grpc_health("dataset") == health_pb2.HealthCheckResponse.SERVING
        row = house.status()["dataset"]
        assert row["state"] == "ready" and "store" in {lack["name"] for lack in row["degraded"]}
        assert "dataset degraded: store since" in modelry("status", home=house.stack.home).stdout
        assert house.known_key_answers()
    finally:
        house.store.start()
    until(house.well)


def test_without_nats_it_is_degraded_and_answers(house: House) -> None:
    house.nats.stop()
    try:
        until(lambda: house.lacking("degraded") >= {(name, "nats") for name in (*SERVICES, "gateway")})
        assert house.readyz()[0] == 200
        assert house.known_key_answers()
        assert house.stack.client.list_datasets() is not None
    finally:
        house.nats.start()
    until(house.well)


async def test_a_full_stream_is_named_and_the_outbox_drains_when_there_is_room(house: House) -> None:
    client = await nats.connect(house.nats.url, user="services", password=house.nats.passwords["services"])
    js = client.jetstream()
    try:
        with pytest.raises(Exception, match="maximum bytes exceeded"):
            for number in range(1000):  # the last bit of room is filled with what is smaller than any event
                await js.publish(f"modelry.events.proj-x.filler.{number}.made", bytes(100_000 if number < 8 else 500))
        await asyncio.to_thread(house.stack.client.create_dataset, dataset={"name": "full"})
        full = {("dataset", "MODELRY_EVENTS")}
        await asyncio.to_thread(until, lambda: house.lacking("degraded") >= full)
        assert house.readyz()[0] == 200
        assert house.known_key_answers()
        await js.purge_stream("MODELRY_EVENTS", subject="modelry.events.proj-x.>")
        await asyncio.to_thread(until, house.well)
    finally:
        await client.close()


def test_a_loop_that_keeps_failing_is_named_and_a_handler_that_fails_ten_times_leaves_a_letter(house: House) -> None:
    client = house.stack.client
    house.sql("ALTER TABLE access.reservations RENAME TO elsewhere")
    try:
        asyncio.run(publish(house, Event("proj-x", "job", "ftjob-1", "succeeded", "SUCCEEDED", terminal=True)))
        until(lambda: len(client.list_dead_letters().dead_letters) == 1)
        [letter] = client.list_dead_letters(service="access").dead_letters
        assert letter.id.startswith("dl-") and letter.service == "access" and letter.consumer == "access-on-job"
        assert "reservations" in letter.error and letter.deliveries == 10
        assert json.loads(letter.body)["resource_id"] == "ftjob-1"
        assert not client.list_dead_letters(service="dataset").dead_letters
        with pytest.raises(ModelryError) as failed:
            client.replay_dead_letter(dead_letter=letter.id)
        assert failed.value.reason == "REPLAY_FAILED"

        until(lambda: ("access", "maintenance of access") in house.lacking("degraded"))
        assert house.readyz()[0] == 200
        assert house.known_key_answers()
        assert house.status()["access"]["dead_letter_count"] == 1
        assert 'modelry_dead_letters{service="access"} 1.0' in metrics(house)
    finally:
        house.sql("ALTER TABLE access.elsewhere RENAME TO reservations")
    until(house.well)
    listed = modelry("dead-letters", "list", "--json", home=house.stack.home)
    assert letter.id in listed.stdout, listed.stdout + listed.stderr
    replayed = modelry("dead-letters", "replay", letter.id, home=house.stack.home)
    assert replayed.returncode == 0, replayed.stderr
    assert not client.list_dead_letters().dead_letters
    with pytest.raises(ModelryError) as again:
        client.replay_dead_letter(dead_letter=letter.id)
    assert again.value.reason == "ALREADY_REPLAYED"


def test_a_refused_terminal_event_is_listed_and_says_why_it_cannot_be_replayed(house: House) -> None:
    house.sql(
        "INSERT INTO training.dead_letters (id, consumer, subject, event_id, headers, body, deliveries, error,"
        " create_time) VALUES ('dl-0', 'outbox', 'modelry.events.p.job.j.succeeded', 'evt_1', '{}', '{}', 1,"
        " 'another terminal event', now())"
    )
    with pytest.raises(ModelryError) as refused:
        house.stack.client.replay_dead_letter(dead_letter="dl-0")
    assert refused.value.reason == "NOT_REPLAYABLE" and "nothing to repeat" in refused.value.message
    house.sql("DELETE FROM training.dead_letters")


def test_pages_go_over_all_services(house: House) -> None:
    client = house.stack.client
    names = ("access", "training", "registry")
    for number in range(7):
        house.sql(
            f"INSERT INTO {names[number % 3]}.dead_letters (id, consumer, subject, event_id, headers, body, deliveries,"
            f" error, create_time) VALUES ('dl-{number}', 'c', 's', 'e', '{{}}', '{{}}', 1, 'e', now())"
        )
    try:
        ids = [letter.id for letter in client.pages("list_dead_letters", "dead_letters", page_size=2)]
        assert ids == [f"dl-{number}" for number in range(6, -1, -1)]
    finally:
        for name in names:
            house.sql(f"DELETE FROM {name}.dead_letters")
    with pytest.raises(ModelryError, match="page_size"):
        client.list_dead_letters(page_size=-5)


def test_only_an_admin_sees_and_replays(house: House) -> None:
    made = house.stack.client.create_api_key(api_key={"name": "owner", "role": "OWNER"})
    owner = house.stack.client_of("", made.secret)
    for call in (owner.list_dead_letters, owner.get_health, lambda: owner.replay_dead_letter(dead_letter="dl-0")):
        with pytest.raises(ModelryError) as refused:
            call()
        assert refused.value.code == "PERMISSION_DENIED"
    for path in ("/api/v1/deadLetters", "/api/v1/health"):
        request = urllib.request.Request(house.stack.http + path, headers={"Authorization": f"Bearer {made.secret}"})
        with pytest.raises(urllib.error.HTTPError) as status:
            urllib.request.urlopen(request, timeout=30)
        assert status.value.code == 403


def test_health_names_every_part_and_an_unknown_letter_is_not_found(house: House) -> None:
    health = house.stack.client.get_health()
    assert {one.service for one in health.services} == {*SERVICES, "gateway"}
    with pytest.raises(ModelryError) as missing:
        house.stack.client.replay_dead_letter(dead_letter="dl-nothing")
    assert missing.value.code == "NOT_FOUND"


def metrics(house: House) -> str:
    with urllib.request.urlopen(f"{house.stack.http}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


async def publish(house: House, event: Event) -> None:
    """As the relay of a service does."""
    client = await nats.connect(house.nats.url, user="services", password=house.nats.passwords["services"])
    headers = {"Nats-Msg-Id": event.id, "ce-id": event.id}
    await client.jetstream().publish(event.subject, event.body().encode(), headers=headers)
    await client.close()
