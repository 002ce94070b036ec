"""What the document says of headers, and of what is refused whatever a service thinks of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import openapi
from modelry.access.v1.access_pb2 import RotateApiKeyRequest
from modelry.api_methods import methods
from modelry.billing.v1.billing_pb2 import Price
from modelry.codec import decode
from services.chassis.data.listing import MAX_PAGE_SIZE

pytestmark = pytest.mark.unit


def test_updates_and_they_alone_take_if_match() -> None:
    taken = {
        operation["operationId"]
        for path in openapi.document()["paths"].values()
        for operation in path.values()
        if any(one["name"] == "If-Match" for one in operation.get("parameters", ()))
    }
    assert taken == {method.name for method in methods() if method.name.startswith("Update")}


def schema_of(name: str, field: str) -> dict[str, Any]:
    schema: dict[str, Any] = openapi.document()["components"]["schemas"][name]["properties"][field]
    return schema


@given(st.data())
def test_every_amount_and_duration_that_the_schema_allows_is_read(data: st.DataObject) -> None:
    price, rotation = schema_of("Price", "amount"), openapi.document()["paths"]["/api/v1/apiKeys/{api_key}:rotate"]
    overlap = rotation["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]["overlap"]
    decode({"amount": data.draw(st.from_regex(price["pattern"][1:-1], fullmatch=True))}, Price())
    decode({"overlap": data.draw(st.from_regex(overlap["pattern"][1:-1], fullmatch=True))}, RotateApiKeyRequest())


def test_what_is_refused_whatever_its_value_is_no_valid_request() -> None:
    document = openapi.document()
    schemas = document["components"]["schemas"]
    assert all(schema["additionalProperties"] is False for name, schema in schemas.items() if name != "Error")
    assert {"not": {"required": ["model", "checkpoint"]}} in schemas["Target"]["allOf"]
    sizes = [
        one["schema"]
        for path in document["paths"].values()
        for operation in path.values()
        for one in operation.get("parameters", ())
        if one["name"] == "page_size"
    ]
    assert len(sizes) > 10
    assert {(size["minimum"], size["maximum"]) for size in sizes} == {(0, MAX_PAGE_SIZE)}
