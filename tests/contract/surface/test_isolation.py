"""Another project's ids do not exist, on any method, over either door. Generated from the protos."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from gateway.transcoder import build_request
from modelry.api_methods import Method, methods
from modelry.cli.naming import arguments
from modelry.client import Client, ModelryError
from tests.stack import Journey, Stack

pytestmark = pytest.mark.contract

GLOBAL = {"item", "benchmark", "dead_letter"}
"""Path variables that name things of the installation, not of a project."""

REFERENCES: dict[str, Any] = {
    "CreateJob": lambda ids: {"job": {"model": "smollm2-135m-instruct", "datasets": [{"ref": ids["dataset_version"]}]}},
    "QuoteJob": lambda ids: {"job": {"model": ids["model_version"], "datasets": [{"ref": ids["dataset_version"]}]}},
    "CreateEvaluation": lambda ids: {
        "evaluation": {
            "baseline": {"model": ids["model_version"]},
            "tasks": [{"custom": {"dataset": ids["dataset_version"]}}],
        }
    },
    "QuoteEvaluation": lambda ids: {
        "evaluation": {
            "baseline": {"checkpoint": ids["checkpoint"]},
            "tasks": [{"custom": {"dataset": ids["dataset_version"]}}],
        }
    },
    "CreateDeployment": lambda ids: {"deployment": {"model": ids["model_version"]}},
    "QuoteDeployment": lambda ids: {"deployment": {"model": ids["tuned_version"]}},
}
"""Methods without a path variable that refer to a project's things in their body."""

FILLERS: dict[str, dict[str, Any]] = {
    "CreateDatasetVersion": {"dataset_version": {"object": {"prefix": "x.jsonl"}}},
    "CreateModelVersion": {"model_version": {"source": {"prefix": "x"}}},
    "SetAlias": {"version": "1"},
    "PublishCheckpoint": {"model_name": "stolen"},
    "ScaleDeployment": {"replicas": 1},
    "UpdateCredential": {"credential": {"title": "t"}},
}


def cases() -> list[Method]:
    """Methods that name something of a project."""
    return [m for m in methods() if m.name in REFERENCES or set(arguments(m)) - GLOBAL]


@pytest.fixture(scope="module")
def stranger(stack: Stack, journey: Journey) -> Client:
    """An owner of another project."""
    project = stack.client.create_project(project={"name": "stranger"})
    made = stack.client_of("stranger").create_api_key(api_key={"name": "owner", "role": "OWNER"})
    return stack.client_of(project.id, made.secret)


def value_of(method: Method, variable: str, ids: dict[str, str]) -> str:
    """The id of project `default` that a path variable stands for; a new kind of variable fails here."""
    name = variable.split(".")[0]
    if name == "version":
        return ids["dataset_version" if method.area == "dataset" else "model_version"]
    return {"project": "proj-00000000000000000000000000", **ids}[name]


def fields_of(method: Method, ids: dict[str, str]) -> dict[str, Any]:
    """The fields of a call that would be right, were the ids the caller's."""
    if method.name in REFERENCES:
        made: dict[str, Any] = REFERENCES[method.name](ids)
        return made
    fields: dict[str, Any] = json.loads(json.dumps(FILLERS.get(method.name, {})))
    for variable in arguments(method):
        *parents, leaf = variable.split(".")
        target = fields
        for parent in parents:
            target = target.setdefault(parent, {})
        target[leaf] = value_of(method, variable, ids)
        if parents:
            target.setdefault("title", "taken")
    return fields


@pytest.mark.parametrize("method", cases(), ids=lambda m: m.name)
def test_a_foreign_id_is_not_found(method: Method, stranger: Client, journey: Journey) -> None:
    fields = fields_of(method, journey.ids)
    with pytest.raises(ModelryError) as caught:
        answer = stranger.call(method, fields)
        if method.server_streaming:
            list(answer)
    allowed = {"NOT_FOUND"} | ({"PERMISSION_DENIED"} if method.role == "ADMIN" else set())
    assert caught.value.code in allowed, caught.value.message
    assert http_status(method, fields, stranger) == (404 if caught.value.code == "NOT_FOUND" else 403)


def http_status(method: Method, fields: dict[str, Any], client: Client) -> int:
    """The status of the same call over HTTP."""
    path = method.template
    for variable in arguments(method):
        value: Any = fields
        for part in variable.split("."):
            value = value[part]
        path = path.replace("{" + variable + "}", value)
    body: Any = {} if not method.body else fields if method.body == "*" else fields.get(method.body, {})
    if method.body == "*":
        body = {key: value for key, value in fields.items() if key not in arguments(method)}
    if isinstance(body, dict) and method.verb == "PATCH":
        body = {key: value for key, value in body.items() if key != "id"}
    data = json.dumps(body).encode() if method.verb in ("POST", "PATCH") else None
    headers = {"Authorization": f"Bearer {client.connection.key}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        client.connection.http_address + path, data=data, headers=headers, method=method.verb
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_every_path_variable_is_known(journey: Journey) -> None:
    for method in cases():
        for variable in arguments(method):
            if method.name not in REFERENCES:
                assert value_of(method, variable, journey.ids)
        build_request(method, {}, {}, {} if method.body else None, {})
