"""What the documents say of headers."""

from __future__ import annotations

import pytest

from gateway import openapi
from modelry.api_methods import methods

pytestmark = pytest.mark.unit


def test_updates_and_they_alone_take_if_match() -> None:
    taken = {
        operation["operationId"]
        for path in openapi.document()["paths"].values()
        for operation in path.values()
        if any(one["name"] == "If-Match" for one in operation.get("parameters", ()))
    }
    assert taken == {method.name for method in methods() if method.name.startswith("Update")}
