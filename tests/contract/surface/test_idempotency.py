"""The same request id 20 times at once makes one resource, on every method that takes one. Found in the protos.

So does a call whose answer was lost between its service and the gateway, which calls again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deploy.local.home import Home
from modelry.api_methods import SERVICES, Method, methods
from modelry.client import Client, ModelryError
from tests.integration.gateway.world import AUTHORIZATION, SECRET, edge
from tests.losing_relay import losing_relay
from tests.stack import Journey, Stack

pytestmark = pytest.mark.contract

TIMES = 20


def _name(word: str) -> str:
    return f"{word}-{uuid.uuid4().hex[:8]}"


def _draft(client: Client, ids: dict[str, str]) -> dict[str, Any]:
    version = client.create_dataset_version(
        dataset=_name("draft"), dataset_version={"file_id": ids["file"], "draft": True}, create_dataset=True
    )
    for seen in client.watch_dataset_version(dataset=version.dataset_id, version=version.id):
        if seen.row_count and seen.finish_time.seconds:
            break
    return {"dataset": version.dataset_id, "version": version.id}


RECIPE = {"epochs": 1, "batch_size": 8, "lora_rank": 4, "cutoff_length": 64}
Builder = Callable[[Client, dict[str, str]], dict[str, Any]]
BUILDERS: dict[str, Builder] = {
    "CreateDataset": lambda c, ids: {"dataset": {"name": _name("set")}},
    "CreateDatasetVersion": lambda c, ids: {
        "dataset": _name("set"),
        "create_dataset": True,
        "dataset_version": {"file_id": ids["file"]},
    },
    "PublishDatasetVersion": _draft,
    "CreateJob": lambda c, ids: {"job": {"model": "tiny", "datasets": [{"ref": "numbers"}], "hyperparameters": RECIPE}},
    "CloneJob": lambda c, ids: {"job": ids["job"]},
    "PublishCheckpoint": lambda c, ids: {"checkpoint": ids["checkpoint"], "model_name": _name("model")},
    "CreateModel": lambda c, ids: {"model": {"name": _name("model")}},
    "CreateModelVersion": lambda c, ids: {"model": "tiny", "model_version": {"source": {"prefix": "tiny"}}},
    "CreateEvaluation": lambda c, ids: {
        "evaluation": {
            "baseline": {"model": "tiny"},
            "tasks": [{"custom": {"dataset": "numbers-test", "max_samples": 1}}],
            "generation": {"max_tokens": 4},
        }
    },
    "CreateStopwordList": lambda c, ids: {"stopword_list": {"name": _name("words"), "words": ["a"]}},
    "CreateDeployment": lambda c, ids: {"deployment": {"model": "tiny", "name": _name("served"), "replicas": 0}},
    "ClaimDeploymentKey": lambda c, ids: {"deployment": ids["deployment"]},
    "CreateProject": lambda c, ids: {"project": {"name": _name("project")}},
    "CreateApiKey": lambda c, ids: {"api_key": {"name": _name("key")}},
    "RotateApiKey": lambda c, ids: {"api_key": c.create_api_key(api_key={"name": _name("key")}).id},
    "CreateCredential": lambda c, ids: {
        "credential": {"name": _name("store"), "endpoint": "http://192.0.2.1:9", "access_key": "a", "secret_key": "s"}
    },
}


def makers() -> list[Method]:
    """Every method that takes a request id."""
    return [method for method in methods() if method.creates]


@pytest.mark.parametrize("method", makers(), ids=lambda m: m.name)
def test_the_same_request_id_makes_one_resource(method: Method, stack: Stack, journey: Journey, tmp_path: Any) -> None:
    client = stack.client
    if method.client_streaming:
        path = tmp_path / "same.jsonl"
        path.write_text(json.dumps({"instruction": "a", "output": "b"}) + "\n")
        with ThreadPoolExecutor(TIMES) as pool:
            ids = set(pool.map(lambda _: _upload(client, method, path, "one-upload"), range(TIMES)))
        assert len(ids) == 1
        return
    fields = {**BUILDERS[method.name](client, journey.ids), "request_id": uuid.uuid4().hex}
    with ThreadPoolExecutor(TIMES) as pool:
        answers = list(pool.map(lambda _: _call(client, method, fields), range(TIMES)))
    if method.name == "ClaimDeploymentKey":  # claimed by the journey, with another request id
        assert set(answers) == {"ALREADY_CLAIMED"}
        return
    refused = [answer for answer in answers if isinstance(answer, str)]
    assert refused == []
    assert len({answer.id for answer in answers}) == 1
    secrets = [answer.secret for answer in answers if getattr(answer, "secret", "")]
    assert len(secrets) <= 1
    _stop(client, method, answers[0].id)


def _call(client: Client, method: Method, fields: dict[str, Any]) -> Any:
    try:
        return client.call(method, fields)
    except ModelryError as error:
        return error.reason


def _upload(client: Client, method: Method, path: Any, request_id: str) -> str:
    messages = [
        method.request(filename="same", purpose="fine-tune", request_id=request_id),
        method.request(data=path.read_bytes()),
    ]
    stub: Any = client._channel.stream_unary(
        method.path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=method.response.FromString,
    )
    return str(stub(iter(messages), metadata=client._metadata).id)


def _stop(client: Client, method: Method, made: str) -> None:
    """Long work that a test began is stopped."""
    if method.response.DESCRIPTOR.name == "Job":
        client.stop_job(job=made)
        list(client.watch_job(job=made))
    if method.response.DESCRIPTOR.name == "Evaluation":
        client.stop_evaluation(evaluation=made)
        list(client.watch_evaluation(evaluation=made))


@pytest.mark.parametrize("method", makers(), ids=lambda m: m.name)
async def test_a_create_over_http_whose_answer_is_lost_makes_one_resource(
    method: Method, stack: Stack, journey: Journey, tmp_path: Path
) -> None:
    client = stack.client
    fields = {} if method.client_streaming else await asyncio.to_thread(BUILDERS[method.name], client, journey.ids)
    before = _count(client, method, fields)
    addresses = {name: stack.state["processes"][name]["address"] for name in SERVICES}
    async with losing_relay(addresses[method.process]) as relay:
        addresses[method.process] = relay.address
        secret = Home(stack.home).secret("token_secret")
        async with edge(tmp_path, None, addresses=addresses, token_secret=secret) as gateway:
            project = client.get_project(project="default").id
            key = {"key_id": "key-1", "project": project, "role": "ADMIN", "state": "ACTIVE", "version": 2}
            gateway.keys.apply(hashlib.sha256(SECRET.encode()).hexdigest(), key)
            path, content = _over_http(method, fields)
            async with gateway.client.request(method.verb, path, headers=AUTHORIZATION, **content) as response:
                answer = await response.json()
    assert relay.lost == 1
    if method.name == "ClaimDeploymentKey":  # claimed by the journey
        assert answer["error"]["reason"] == "ALREADY_CLAIMED"
        return
    assert response.status == 200, answer
    assert _count(client, method, fields) - before == int(not method.name.startswith(("Rotate", "PublishDataset")))
    await asyncio.to_thread(_stop, client, method, answer["id"])


def _over_http(method: Method, fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The path and the content of a call."""
    if method.client_streaming:
        return f"{method.template}?filename=lost.jsonl", {"data": b"{}"}
    left = dict(fields)
    path = re.sub(r"\{(\w+)\}", lambda variable: str(left.pop(variable[1])), method.template)
    return path, {"json": {**left.pop(method.body, {}), **left}}


def _count(client: Client, method: Method, fields: dict[str, Any]) -> int:
    """How many there are of what a method makes; none where their parent is not there yet."""
    made = method.response.DESCRIPTOR
    for lister in methods():
        items = next((field for field in lister.response.DESCRIPTOR.fields if field.message_type == made), None)
        if items is not None and lister.name.startswith("List"):
            names = re.findall(r"\{(\w+)\}", lister.template)
            parent = {name: fields.get(f"{name}_name") or fields[name] for name in names}
            page = _call(client, lister, {**parent, "page_size": 1000})
            return 0 if page == "NOT_FOUND" else len(getattr(page, items.name))
    return 0


def test_the_same_request_id_with_another_body_is_refused(stack: Stack) -> None:
    request_id = uuid.uuid4().hex
    stack.client.create_dataset(dataset={"name": _name("set")}, request_id=request_id)
    with pytest.raises(ModelryError) as caught:
        stack.client.create_dataset(dataset={"name": _name("set")}, request_id=request_id)
    assert caught.value.code == "ALREADY_EXISTS"
