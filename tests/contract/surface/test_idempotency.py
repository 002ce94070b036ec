"""The same request id 20 times at once makes one resource, on every method that takes one. Found in the protos."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from modelry.api_methods import Method, methods
from modelry.client import Client, ModelryError
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
        "credential": {"name": _name("store"), "endpoint": "http://127.0.0.1:9", "access_key": "a", "secret_key": "s"}
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


def test_the_same_request_id_with_another_body_is_refused(stack: Stack) -> None:
    request_id = uuid.uuid4().hex
    stack.client.create_dataset(dataset={"name": _name("set")}, request_id=request_id)
    with pytest.raises(ModelryError) as caught:
        stack.client.create_dataset(dataset={"name": _name("set")}, request_id=request_id)
    assert caught.value.code == "ALREADY_EXISTS"
