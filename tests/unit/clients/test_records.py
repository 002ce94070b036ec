"""Records in the KV: what a service writes is what a gateway reads, also what version 0.1 wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network

import pytest

from gateway.keys import KeyRing
from gateway.routes import RouteView
from services.chassis.auth import Role
from services.clients.records import AdapterRecord, KeyRecord, ReplicaRecord, RouteRecord

pytestmark = pytest.mark.unit

KEY = KeyRecord(
    key_id="key-1",
    role=Role.DEVELOPER,
    state="ACTIVE",
    version=3,
    project="proj-1",
    project_name="default",
    models=("help", "ft:a"),
    addresses=(ip_network("10.0.0.0/8"), ip_network("::1/128")),
    expire_time=1_790_000_000.5,
)
KEY_0_1 = """{"key_id": "key-1", "project": "proj-1", "project_name": "default", "role": "DEVELOPER", "state": "ACTIVE",
    "models": ["help", "ft:a"], "addresses": ["10.0.0.0/8", "::1/128"], "expire_time": 1790000000.5, "version": 3}"""

ROUTE = RouteRecord(
    deployment_id="dep-1",
    project="proj-1",
    name="help",
    version=7,
    engine_model="help",
    model_version_id="mv-1",
    state="READY",
    max_model_length=2048,
    billing="SHARED",
    shared_with=("proj-2",),
    accepts_adapters=True,
    replicas=(ReplicaRecord("rep-1", "127.0.0.1:15001", "s3"),),
    adapters=(AdapterRecord("ft:a", "mv-2", "ft:a@1", True, "proj-2"),),
)
ROUTE_0_1 = """{"deployment_id": "dep-1", "project": "proj-1", "name": "help", "deleted": false, "state": "READY",
    "model_version_id": "mv-1", "engine_model": "help", "max_model_length": 2048, "shared_with": ["proj-2"],
    "billing": "SHARED", "accepts_adapters": true, "version": 7,
    "replicas": [{"id": "rep-1", "address": "127.0.0.1:15001", "secret": "s3"}],
    "adapters": [{"fine_tuned_name": "ft:a", "model_version_id": "mv-2", "engine_model": "ft:a@1", "ready": true,
        "project": "proj-2"}]}"""


def test_what_access_writes_is_what_a_gateway_reads() -> None:
    assert KeyRecord.from_json(json.loads(json.dumps(KEY.to_json()))) == KEY


def test_what_serving_writes_is_what_a_gateway_reads() -> None:
    assert RouteRecord.from_json(json.loads(json.dumps(ROUTE.to_json()))) == ROUTE


def test_records_of_version_0_1_are_read_and_written_as_they_were() -> None:
    assert KeyRecord.from_json(json.loads(KEY_0_1)) == KEY
    assert RouteRecord.from_json(json.loads(ROUTE_0_1)) == ROUTE
    # The comparison of a bucket with the database puts nothing anew after an upgrade.
    assert KEY.to_json() == json.loads(KEY_0_1)
    assert ROUTE.to_json() == json.loads(ROUTE_0_1)


def test_the_first_routes_did_not_say_whose_an_adapter_is() -> None:
    old = json.loads(ROUTE_0_1)
    del old["adapters"][0]["project"]
    assert RouteRecord.from_json(old).adapters == (replace(ROUTE.adapters[0], project="proj-1"),)


def test_what_a_record_lacks_is_the_default_and_what_is_unknown_is_left_out() -> None:
    key = KeyRecord.from_json({"key_id": "key-1", "role": "VIEWER", "state": "ACTIVE", "version": 1, "colour": "red"})
    assert key == KeyRecord("key-1", Role.VIEWER, "ACTIVE", 1)
    assert key.may_call("anything")
    route = RouteRecord.from_json({"deployment_id": "dep-1", "project": "p", "name": "n", "version": 1, "new": [1]})
    assert route == RouteRecord("dep-1", "p", "n", 1, engine_model="n")
    assert not route.visible_to("proj-2")


@pytest.mark.parametrize("lost", ["key_id", "role", "state", "version"])
def test_a_key_without_a_needed_field_is_refused(lost: str) -> None:
    content = {name: value for name, value in KEY.to_json().items() if name != lost}
    with pytest.raises((KeyError, TypeError)):
        KeyRing().apply("digest", content)


@pytest.mark.parametrize("lost", ["deployment_id", "project", "name", "version"])
async def test_a_route_without_a_needed_field_is_refused(lost: str) -> None:
    content = {name: value for name, value in ROUTE.to_json().items() if name != lost}
    with pytest.raises((KeyError, TypeError)):
        RouteView().apply("dep-1", content)


def test_a_key_calls_the_names_on_its_list_alone() -> None:
    assert KEY.may_call("other", "ft:a")
    assert not KEY.may_call("other")
