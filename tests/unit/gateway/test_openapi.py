"""What the document says of headers, and of what is refused whatever a service thinks of it."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Text, column

from gateway import openapi, openapi_forms
from modelry.access.v1.access_pb2 import RotateApiKeyRequest
from modelry.api_methods import methods
from modelry.billing.v1.billing_pb2 import Price
from modelry.codec import decode
from services.access.domain.event_names import EVENT_NAMES
from services.access.domain.money import ITEMS
from services.chassis.data.filters import parse_filter
from services.chassis.data.listing import MAX_PAGE_SIZE
from services.chassis.errors import Invalid
from services.dataset.domain.checks import PURPOSES
from services.dataset.reading.formats import COLUMNS

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
    assert schemas["DatasetVersion"]["allOf"] == [{"not": {"required": ["object", "file_id"]}}]
    assert schemas["Task"]["oneOf"] == [{"required": ["preset"]}, {"required": ["custom"]}]
    sizes = [
        one["schema"]
        for path in document["paths"].values()
        for operation in path.values()
        for one in operation.get("parameters", ())
        if one["name"] == "page_size"
    ]
    assert len(sizes) > 10
    assert {(size["minimum"], size["maximum"]) for size in sizes} == {(0, MAX_PAGE_SIZE), (0, 100)}


def body_of(verb: str, path: str) -> list[dict[str, Any]]:
    content = openapi.document()["paths"][path][verb]["requestBody"]["content"]["application/json"]
    schema: dict[str, Any] = content["schema"]
    parts = schema.get("allOf", [schema])
    schemas = openapi.document()["components"]["schemas"]
    return [schemas[part["$ref"].rpartition("/")[2]] if "$ref" in part else part for part in parts]


def test_what_is_new_is_whole_and_what_is_updated_need_not_be() -> None:
    created, updated = body_of("post", "/api/v1/evaluations"), body_of("patch", "/api/v1/evaluations/{evaluation_id}")
    assert [part.get("required") for part in created] == [None, ["baseline", "tasks"]]
    assert [part.get("required") for part in updated] == [None]
    assert created[1]["properties"]["tasks"] == {"minItems": 1}


def test_names_orders_and_masks_have_their_patterns() -> None:
    (_, new) = body_of("post", "/api/v1/datasets")
    listed = openapi.document()["paths"]["/api/v1/datasets"]["get"]["parameters"]
    changed = openapi.document()["paths"]["/api/v1/datasets/{dataset_id}"]["patch"]["parameters"]
    patterns = {one["name"]: one["schema"].get("pattern") for one in [*listed, *changed]}
    patterns["name"] = new["properties"]["name"]["pattern"]
    for name, good, bad in (
        ("name", "a-b", "A"),
        ("order_by", "name desc", "size"),
        ("update_mask", "title,metadata", "titel"),
    ):
        assert re.fullmatch(patterns[name], good) and not re.fullmatch(patterns[name], bad)


def test_the_document_is_written_once() -> None:
    assert json.loads(openapi.written()) == openapi.document()
    assert openapi.written() is openapi.written()


def test_the_words_that_the_schema_lists_are_those_of_the_services() -> None:
    assert sorted(openapi_forms.COLUMNS) == sorted(COLUMNS)
    assert sorted(openapi_forms.EVENT_NOUNS) == sorted(EVENT_NAMES)
    assert sorted(openapi_forms.PRICE_ITEMS) == sorted(ITEMS)
    assert sorted(openapi_forms.PURPOSES) == sorted(PURPOSES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name=x",
        "name = 'a b' AND state!=READY",
        'name:"x\\"y" and state = READY',
        "name=x  ",
        "name=1 AND",
        'name="\\\n"',
    ],
)
@pytest.mark.parametrize("field", ["name", "nothing"])
def test_the_form_of_a_filter_is_what_filters_are_read_by(text: str, field: str) -> None:
    given_text = text.replace("name", field)
    fields: Any = {"name": column("name", Text()), "state": column("state", Text())}
    allowed = bool(re.search(openapi_forms.filter_pattern(("name", "state")), given_text))
    try:
        parse_filter(given_text, fields)
    except Invalid:
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize(
    "text", ["10.0.0.0/8", "1.2.3.4", "::", "::1/128", "1:2::/32", "::ffff:1.2.3.4", "a::b:1.2.3.4"]
)
def test_addresses_and_ranges_have_their_form(text: str) -> None:
    pattern = schema_of("ApiKey", "addresses")["items"]["pattern"]
    assert re.search(pattern, text) and ipaddress.ip_network(text)
    assert not re.search(pattern, f"{text}/129") and not re.search(pattern, f"{text}.")
