"""Requests made from `/openapi.json`, with keys of every role: no 5xx, and no answer off its schema.

What the schema calls valid is not refused for its form.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.openapi import document
from tests.stack import Stack

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:Do not use the `random` module"),
]

EXAMPLES = 30
SECONDS = 60.0
ROLES = ("ADMIN", "OWNER", "DEVELOPER", "VIEWER", "INFERENCE")
KNOWN = "known"
"""The name of a resource of each kind that exists."""
PLACES = {"version": "latest", "item": "input-token"}
"""What stands in a path for what has no such name."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
NOT_OF_FORM = re.compile(
    r"If-Match|two of our columns|two (tasks|targets) have|is fixed at creation|page_token is not one"
    r"|happening .+ is none|there is no preset benchmark|filter has .+ for|filter compares|With SKIP|goes with"
    r"|has passed already|beyond the newest event|needs a GPU|this machine gives out"
    r"|the credential .+ is (not )?for|does not answer|^dataset: .+ is no name",
    re.IGNORECASE,
)
"""What the schema cannot say: refusals that are about what exists, about several fields, or about the time."""


def operations() -> list[Any]:
    """All operations; the key is ours to send, so the document is taken without its security."""
    known = copy.deepcopy(document())
    del known["security"], known["components"]["securitySchemes"]
    return [found.ok() for found in schemathesis.openapi.from_dict(known).get_all_operations()]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, dict[str, str]]]:
    """An installation of these tests alone, which they leave in disorder, and a key of each role."""
    home = tmp_path_factory.mktemp("fuzzed")
    stack = Stack(home)
    stack.up()
    stack.client.create_dataset(dataset={"name": KNOWN})
    stack.client.create_model(model={"name": KNOWN})
    stack.client.create_stopword_list(stopword_list={"name": KNOWN, "words": ["the"]})
    stack.client.create_project(project={"name": KNOWN})
    keys = {
        role: stack.client.create_api_key(api_key={"name": f"of-{role.lower()}", "role": role}).secret
        for role in ROLES[1:]
    }
    yield stack, {**keys, "ADMIN": stack.admin_key}
    stack.down()


@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.label)
def test_no_answer_is_an_error_of_ours_or_off_its_schema(operation: Any, fuzzed: tuple[Stack, dict[str, str]]) -> None:
    stack, keys = fuzzed
    refused: dict[str, str] = {}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=_cases(operation), role=st.sampled_from(ROLES), known=st.booleans())
    def ask(case: Any, role: str, known: bool) -> None:
        if known and operation.method.upper() != "DELETE":
            case.path_parameters = {name: PLACES.get(name, KNOWN) for name in case.path_parameters}
        answer = _send(case, stack.http, keys[role])
        valid = case.meta.generation.mode is GenerationMode.POSITIVE
        if valid and answer.status_code == 400:
            refused.update((field, str(answer.request.body or answer.request.url)) for field in _refused(answer))
        if answer.headers["content-type"] != "text/event-stream":
            case.validate_response(answer, checks=CHECKS)
        assert answer.status_code < 500

    ask()
    assert not refused, "\n".join(f"{field}  <-  {request:.300}" for field, request in refused.items())


def _cases(operation: Any) -> st.SearchStrategy[Any]:
    """Valid requests, and invalid ones where the schema has something that can be broken."""
    valid = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if not operation.query and all(body.media_type != "application/json" for body in operation.body):
        return valid
    return valid | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)


def _send(case: Any, address: str, key: str) -> requests.Response:
    """Send a request; of a stream that has no end only the head is read."""
    wanted = case.as_transport_kwargs(base_url=address, headers={"Authorization": f"Bearer {key}"})
    answer = requests.request(**wanted, stream=True, timeout=SECONDS)
    if answer.headers["content-type"] == "text/event-stream":
        answer.close()
    else:
        assert answer.content is not None
    return answer


def _refused(answer: requests.Response) -> Iterator[str]:
    """Yield the fields that were refused for their form, which the schema should say."""
    for one in answer.json()["error"]["details"].get("field_violations", []):
        if not NOT_OF_FORM.search(f"{one['field']}: {one['message']}"):
            yield f"{one['field']}: {one['message']:.150}"
