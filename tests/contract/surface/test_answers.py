"""What is read of a whole journey has the form that `/openapi.json` says. Generated from the protos."""

from __future__ import annotations

import re

import pytest
import requests
import schemathesis

from gateway.openapi import document
from modelry.api_methods import Method, methods
from tests.contract.surface.test_isolation import value_of
from tests.stack import Journey, Stack

pytestmark = pytest.mark.contract

VARIABLE = re.compile(r"\{([a-z_.]+)\}")
BENCHMARK = "mmlu"


def readers() -> list[Method]:
    """Every method that reads and answers with one message."""
    return [one for one in methods() if one.verb == "GET" and not one.server_streaming]


@pytest.mark.parametrize("method", readers(), ids=lambda method: method.name)
def test_what_is_read_has_the_form_that_the_schema_says(method: Method, stack: Stack, journey: Journey) -> None:
    ids = {"benchmark": BENCHMARK, **journey.ids}
    if "{alias}" in method.template:
        ids["model"] = ids["tuned_model"]
    path = VARIABLE.sub(lambda found: value_of(method, found[1], ids), method.template)
    answer = requests.get(stack.http + path, headers={"Authorization": f"Bearer {stack.admin_key}"}, timeout=60)
    assert answer.status_code == 200, answer.text
    operation = schemathesis.openapi.from_dict(document())[method.template][method.verb]
    operation.validate_response(answer)
