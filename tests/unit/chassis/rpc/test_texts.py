"""Every text of every request, public and internal, has a longest length and no NUL. Generated from the protos."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from gateway.openapi import document
from modelry.codec import decode
from modelry.training.v1.training_pb2 import Job
from services.chassis.errors import Invalid, Violation
from services.chassis.rpc.validation import validate
from tests.texts import Text, texts

pytestmark = pytest.mark.unit

PROTOS = Path(__file__).parents[4] / "protos"


def requests() -> dict[str, Any]:
    """The request type of every method there is."""
    names = sorted(path.relative_to(PROTOS) for path in PROTOS.glob("modelry/*/v1/*.proto"))
    files = [importlib.import_module(".".join(name.with_suffix("").parts) + "_pb2").DESCRIPTOR for name in names]
    methods = [one for file in files for service in file.services_by_name.values() for one in service.methods]
    return {method.input_type.full_name: method.input_type for method in methods}


REQUESTS = requests()
TEXTS = [
    pytest.param(name, text, id=f"{name.removeprefix('modelry.')}:{text.path}{'/key' if text.of_key else ''}")
    for name, request in REQUESTS.items()
    for text in texts(request)
]


def faults(request: str, text: Text, value: str) -> list[Violation]:
    """What is wrong with the text of a request."""
    message = decode(text.fields(value), GetMessageClass(REQUESTS[request])())
    try:
        validate(message)
    except Invalid as error:
        return [one for one in error.violations if one.field == text.path and one.reason in ("TOO_LONG", "HAS_NUL")]
    return []


@pytest.mark.parametrize(("request_name", "text"), TEXTS)
def test_a_text_is_as_long_as_it_may_be_and_has_no_nul(request_name: str, text: Text) -> None:
    assert not faults(request_name, text, "x" * text.longest)
    (long,) = faults(request_name, text, "x" * (text.longest + 1))
    assert long.reason == "TOO_LONG" and f"{text.longest + 1:,}" in long.message and f"{text.longest:,}" in long.message
    (nul,) = faults(request_name, text, "x\0y")
    assert nul.reason == "HAS_NUL"
    assert "xx" not in long.message and "x\0" not in nul.message, "a value may be a secret"


def test_what_is_output_only_is_ignored_however_long_it_is() -> None:
    """Who reads a job sends all of it back: with a cause that no request may have."""
    validate(Job(model="m", datasets=[{"ref": "d"}], cause="x" * 100_000))


def test_the_schema_says_how_long_a_text_may_be() -> None:
    schemas = document()["components"]["schemas"]
    title, words = schemas["Job"]["properties"]["title"], schemas["StopwordList"]["properties"]["words"]["items"]
    metadata = schemas["Job"]["properties"]["metadata"]
    assert (title["maxLength"], words["maxLength"]) == (200, 1000)
    assert (metadata["propertyNames"]["maxLength"], metadata["additionalProperties"]["maxLength"]) == (64, 512)
    assert "maxLength" not in schemas["Job"]["properties"]["cause"], "what services say is as long as it is"
    assert "maxLength" not in schemas["Sample"]["properties"]["prompt"]
