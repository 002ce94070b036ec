"""A late repeat of a create whose resource was deleted makes nothing and says so: each kind, at both doors.

Found in the protos: every method that makes what another one deletes.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from modelry.api_methods import Method, methods
from modelry.client import Client, ModelryError
from tests.contract.surface.test_idempotency import BUILDERS, _over_http, _stop, _upload, makers
from tests.stack import Journey, Stack

pytestmark = pytest.mark.contract

Answer = dict[str, Any]


def deleter_of(method: Method) -> Method | None:
    """The method that deletes what this one makes."""
    return next((one for one in methods() if one.name == f"Delete{method.response.DESCRIPTOR.name}"), None)


# To publish a data set's version names what is there: its repeat finds nothing and makes nothing.
MAKERS = [method for method in makers() if deleter_of(method) and method.name != "PublishDatasetVersion"]


def test_every_create_is_here_unless_what_it_makes_stays() -> None:
    left = {method.name for method in makers()} - {method.name for method in MAKERS}
    assert left == {"PublishDatasetVersion", "ClaimDeploymentKey", "CreateProject", "CreateApiKey", "RotateApiKey"}


@pytest.mark.parametrize("door", ["http", "grpc"])
@pytest.mark.parametrize("method", MAKERS, ids=lambda m: m.name)
def test_a_late_repeat_of_a_create_says_that_it_was_deleted(
    method: Method, door: str, stack: Stack, journey: Journey, tmp_path: Path
) -> None:
    client, request_id = stack.client, uuid.uuid4().hex
    fields = {} if method.client_streaming else BUILDERS[method.name](client, journey.ids)
    call = _http if door == "http" else _grpc
    made = call(stack, method, fields, request_id, tmp_path)
    assert "id" in made, made
    assert call(stack, method, fields, request_id, tmp_path)["id"] == made["id"]
    _stop(client, method, made["id"])
    _delete(client, method, fields, made)
    late = call(stack, method, fields, request_id, tmp_path)
    assert (late.get("id"), late.get("reason")) == (None, "RESOURCE_DELETED"), late
    assert made["id"] in late["message"]


def _grpc(stack: Stack, method: Method, fields: dict[str, Any], request_id: str, folder: Path) -> Answer:
    try:
        if method.client_streaming:
            path = folder / "same"
            path.write_bytes(b"{}")
            return {"id": _upload(stack.client, method, path, request_id)}
        answer = stack.client.call(method, {**fields, "request_id": request_id})
    except ModelryError as error:
        return {"reason": error.reason, "message": str(error)}
    except Exception as error:  # the plain stub of an upload
        return {"reason": "RESOURCE_DELETED" if "deleted" in str(error) else "", "message": str(error)}
    dataset = {"dataset_id": answer.dataset_id} if hasattr(answer, "dataset_id") else {}
    return {"id": answer.id, **dataset}


def _http(stack: Stack, method: Method, fields: dict[str, Any], request_id: str, folder: Path) -> Answer:
    path, content = _over_http(method, fields)
    body = content.get("data") or json.dumps(content["json"]).encode()
    headers = {"Authorization": f"Bearer {stack.admin_key}", "Content-Type": "application/json"}
    headers["Idempotency-Key"] = request_id
    request = Request(stack.http + path, body, headers, method=method.verb)
    try:
        with urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))
    except HTTPError as error:
        return dict(json.load(error)["error"])


def _delete(client: Client, method: Method, fields: dict[str, Any], made: Answer) -> None:
    deleter = deleter_of(method)
    assert deleter is not None
    names = re.findall(r"\{(\w+)\}", deleter.template)
    parents = {"dataset": made.get("dataset_id") or fields.get("dataset"), "model": "-"}
    where = {name: made["id"] if name == names[-1] else parents[name] for name in names}
    getter = next(one for one in methods() if one.name == deleter.name.replace("Delete", "Get", 1))
    end = time.monotonic() + 60
    while time.monotonic() < end:  # held for a moment by what was ended, or going
        try:
            client.call(deleter, where)
            client.call(getter, where)
        except ModelryError as error:
            if error.code == "NOT_FOUND":
                return
        time.sleep(0.2)
    raise AssertionError(f"{made['id']} was not deleted within a minute")
