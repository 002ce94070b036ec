"""Keys, routes and the choice of a replica."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import pytest

from gateway.authentication import Authenticator
from gateway.balancing import AFFINITY_SLACK, choose, prefix_of
from gateway.errors import wrap
from gateway.keys import KeyRing
from gateway.refusals import ModelNotFoundHere
from gateway.routes import RouteView
from services.chassis.auth import Role, TokenIssuer
from services.chassis.errors import (
    Denied,
    Invalid,
    ModelryError,
    NotFound,
    OverLimit,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedEncoding,
)
from services.clients.records import KeyRecord, ReplicaRecord

pytestmark = pytest.mark.unit

SECRET = "mk-secret"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()


def record(**changes: Any) -> dict[str, Any]:
    return {"key_id": "key-1", "project": "p", "role": "INFERENCE", "state": "ACTIVE", "version": 1, **changes}


def route(**changes: Any) -> dict[str, Any]:
    replicas = [{"id": "rep-1", "address": "127.0.0.1:1"}]
    adapter = {"fine_tuned_name": "ft:b:p:s:1", "model_version_id": "mv-2", "engine_model": "ft:b:p:s:1", "ready": True}
    base = {"deployment_id": "dep-1", "project": "p", "name": "help", "version": 1, "model_version_id": "mv-1"}
    return {**base, "replicas": replicas, "adapters": [adapter], **changes}


def authenticator() -> Authenticator:
    ring = KeyRing()
    ring.apply(DIGEST, record(project="proj-own", project_name="own"))
    nobody: Any = None  # a project's key asks nobody
    return Authenticator(ring, TokenIssuer("a-secret-of-the-tests-of-32-bytes"), nobody)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"modelry-project": "own"},
        {"modelry-project": "proj-own"},
        {"openai-project": "own"},
        {"openai-project": "proj_abc123"},  # OpenAI's own ids are never ours: their SDKs send them from the environment
        {"modelry-project": "own", "openai-project": "another"},
    ],
)
async def test_a_key_is_in_its_own_project(headers: dict[str, str]) -> None:
    key = authenticator().key({"authorization": f"Bearer {SECRET}"}, "127.0.0.1")
    assert await authenticator().project(key, headers) == "proj-own"


@pytest.mark.parametrize(
    "headers",
    [
        {"modelry-project": "another"},
        {"modelry-project": "proj_abc123"},
        {"openai-project": "another"},
        {"openai-project": "proj-another"},
        {"modelry-project": "another", "openai-project": "own"},
    ],
)
async def test_another_project_does_not_exist_for_a_key(headers: dict[str, str]) -> None:
    key = authenticator().key({"authorization": f"Bearer {SECRET}"}, "127.0.0.1")
    with pytest.raises(NotFound) as caught:
        await authenticator().project(key, headers)
    assert caught.value.reason == "PROJECT_NOT_FOUND"


def test_a_known_key_is_let_in_and_a_revoked_one_stays_out() -> None:
    ring = KeyRing()
    ring.apply(DIGEST, record())
    assert ring.authenticate(SECRET, "127.0.0.1").key_id == "key-1"
    ring.apply(DIGEST, record(state="REVOKED", version=2))
    ring.apply(DIGEST, record(version=1))
    with pytest.raises(Unauthenticated):
        ring.authenticate(SECRET, "127.0.0.1")


def test_expiry_and_addresses_are_kept() -> None:
    ring = KeyRing()
    ring.apply(DIGEST, record(expire_time=time.time() - 1))
    with pytest.raises(Unauthenticated):
        ring.authenticate(SECRET, "127.0.0.1")
    ring.apply(DIGEST, record(addresses=["10.0.0.0/8"], version=2))
    assert ring.authenticate(SECRET, "10.1.2.3")
    with pytest.raises(Denied):
        ring.authenticate(SECRET, "127.0.0.1")


async def test_names_resolve_to_deployments_and_adapters_of_the_project_only() -> None:
    view = RouteView()
    view.apply("dep-1", route())
    for name in ("help", "dep-1"):
        target = view.resolve("p", name)
        assert target is not None
        assert target.model_version_id == "mv-1"
    tuned = view.resolve("p", "ft:b:p:s:1")
    assert tuned is not None
    assert tuned.model_version_id == "mv-2"
    assert view.resolve("other", "help") is None
    assert [name for name, _ in view.callable_names("p")] == ["help", "ft:b:p:s:1"]


async def test_an_older_route_is_never_taken() -> None:
    view = RouteView()
    view.apply("dep-1", route(version=5, replicas=[]))
    assert view.apply("dep-1", route(version=4)) is None
    target = view.resolve("p", "help")
    assert target is not None
    assert not target.ready


async def test_a_waiting_call_goes_on_when_its_adapter_is_ready() -> None:
    view = RouteView()
    waiting = route()
    waiting["adapters"][0]["ready"] = False
    view.apply("dep-1", waiting)
    assert (await view.wait_until_ready("p", "ft:b:p:s:1", 0.01)).ready is False  # type: ignore[union-attr]
    view.apply("dep-1", route(version=2))
    assert (await view.wait_until_ready("p", "ft:b:p:s:1", 1)).ready is True  # type: ignore[union-attr]


async def test_a_tuned_name_that_was_published_a_moment_ago_is_waited_for() -> None:
    view = RouteView()
    view.apply("dep-1", route(adapters=[], accepts_adapters=True))
    asked = asyncio.create_task(view.wait_until_known("p", "ft:b:p:s:1", 10))
    await asyncio.sleep(0)
    assert not asked.done()
    view.apply("dep-1", route(version=2, accepts_adapters=True))
    target = await asked
    assert target is not None and target.model_version_id == "mv-2"


async def test_a_tuned_name_is_not_waited_for_where_nothing_could_host_it() -> None:
    view = RouteView()
    view.apply("dep-1", route(adapters=[]))
    assert await view.wait_until_known("p", "ft:b:p:s:1", 1000) is None


async def test_an_adapter_on_a_shared_base_is_its_own_projects_only() -> None:
    view = RouteView()
    shared = route(billing="SHARED", shared_with=["q", "r"])
    shared["adapters"][0]["project"] = "q"
    view.apply("dep-1", shared)
    assert view.resolve("q", "ft:b:p:s:1") is not None
    for project in ("p", "r"):
        assert view.resolve(project, "help") is not None
        assert view.resolve(project, "ft:b:p:s:1") is None
        assert [name for name, _ in view.callable_names(project)] == ["help"]


def test_a_projects_own_name_ranks_before_a_shared_one_even_while_it_restarts() -> None:
    view = RouteView()
    view.apply("dep-1", route(project="another", billing="SHARED", shared_with=["p"], adapters=[]))
    view.apply("dep-2", route(deployment_id="dep-2", replicas=[], adapters=[]))
    target = view.resolve("p", "help")
    assert target is not None and (target.route.deployment_id, target.ready) == ("dep-2", False)
    assert not list(view.callable_names("p"))  # another's model is not shown under the name either
    view.apply("dep-2", route(deployment_id="dep-2", adapters=[], version=2))
    assert [(name, found.route.deployment_id) for name, found in view.callable_names("p")] == [("help", "dep-2")]
    view.apply("dep-2", route(deployment_id="dep-2", deleted=True, version=3))
    assert [(name, found.route.deployment_id) for name, found in view.callable_names("p")] == [("help", "dep-1")]


def test_a_tuned_name_is_the_projects_own_wherever_it_is_hosted() -> None:
    view = RouteView()
    shared = route(project="another", name="base", billing="SHARED", shared_with=["p"])
    shared["adapters"][0]["project"] = "p"
    view.apply("dep-1", shared)
    view.apply("dep-2", route(deployment_id="dep-2", replicas=[]))
    target = view.resolve("p", "ft:b:p:s:1")
    assert target is not None and (target.route.deployment_id, target.ready) == ("dep-1", True)


OWN = {"fine_tuned_name": "ft:own", "model_version_id": "mv-1", "engine_model": "help", "ready": True}


@pytest.mark.parametrize(
    ("held", "opened"),
    [
        ("help", {"help", "dep-1", "ft:own"}),
        ("dep-1", {"help", "dep-1", "ft:own"}),
        ("ft:own", {"ft:own"}),
        ("ft:b:p:s:1", {"ft:b:p:s:1"}),
        ("*", {"help", "dep-1", "ft:own", "ft:b:p:s:1"}),
        ("another", set()),
    ],
)
def test_a_keys_list_covers_the_names_it_holds_and_no_adapter_hosted_beside_them(held: str, opened: set[str]) -> None:
    view = RouteView()
    view.apply("dep-1", route(adapters=[*route()["adapters"], OWN]))
    key = KeyRecord("key-1", Role.INFERENCE, "ACTIVE", 1, "p", models=(held,))
    targets = {name: view.resolve("p", name) for name in ("help", "dep-1", "ft:own", "ft:b:p:s:1")}
    assert {name for name, target in targets.items() if target is not None and key.may_call(*target.names)} == opened


def test_the_least_loaded_replica_is_chosen_and_tried_ones_are_not() -> None:
    replicas = [ReplicaRecord(f"rep-{n}", f"127.0.0.1:{n}") for n in range(3)]
    assert choose(replicas, {"rep-0": 1, "rep-1": 0, "rep-2": 2}, "") == replicas[1]
    assert choose(replicas, {}, "", {"rep-0", "rep-1", "rep-2"}) is None


def test_equal_prefixes_meet_the_same_replica_until_it_is_busier() -> None:
    replicas = [ReplicaRecord(f"rep-{n}", f"127.0.0.1:{n}") for n in range(3)]
    favourite = choose(replicas, {}, "You are a helpful assistant")
    assert favourite is not None
    assert choose(replicas, {favourite.id: AFFINITY_SLACK}, "You are a helpful assistant") == favourite
    assert choose(replicas, {favourite.id: AFFINITY_SLACK + 1}, "You are a helpful assistant") != favourite


def test_a_prefix_is_the_first_message_or_the_prompt() -> None:
    assert prefix_of({"messages": [{"content": "abc"}]}) == "abc"
    assert prefix_of({"prompt": "abc"}) == "abc"
    assert prefix_of({"messages": [{"content": [{"type": "text"}]}]}) == ""


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Unauthenticated("no"), 401, "invalid_api_key"),
        (ModelNotFoundHere.of("x"), 404, "model_not_found"),
        (OverLimit("slow"), 429, "rate_limit_exceeded"),
        (Unavailable("later"), 503, "unavailable"),
        (Invalid("bad", field="model"), 400, "invalid_field"),
        (TooLarge.over(32 << 20), 413, "body_too_large"),
        (UnsupportedEncoding("packed"), 415, "unsupported_encoding"),
    ],
)
def test_openai_errors(error: ModelryError, status: int, code: str) -> None:
    answer = wrap(error, "/v1/chat/completions", "req_1")
    assert answer.status == status
    assert answer.body["error"]["code"] == code
    assert ("Retry-After" in answer.headers) == (status in (429, 503))
    assert ("x-should-retry" in answer.headers) == (status not in (429, 503))
    native = wrap(error, "/api/v1/jobs", "req_1")
    assert (native.status, native.headers) == (answer.status, answer.headers)


def test_an_inner_error_tells_nothing_of_itself() -> None:
    answer = wrap(ModelryError("SELECT secret"), "/api/v1/jobs", "req_1")
    assert answer.status == 500
    assert "SELECT" not in str(answer.body)
    assert answer.body["error"]["request_id"] == "req_1"
