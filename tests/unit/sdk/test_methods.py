"""What the protos say of methods, beside what their names say."""

import importlib

import pytest
from google.protobuf.descriptor_pb2 import MethodOptions

from modelry.api_methods import AREAS, Method, methods

pytestmark = pytest.mark.unit
READING = ("Get", "List", "Watch", "Read", "Preview", "Browse", "Quote")
NEVER_REPEATED = ("Create", "Clone", "Rotate", "Claim", "Upload", "Update", "Delete")


@pytest.mark.parametrize("method", methods(), ids=lambda m: m.name)
def test_what_only_reads_has_no_side_effects_and_what_makes_or_changes_is_not_idempotent(method: Method) -> None:
    assert method.name.startswith(READING) == (method.idempotency == MethodOptions.NO_SIDE_EFFECTS)
    assert not (method.name.startswith(NEVER_REPEATED) and method.repeatable)


@pytest.mark.parametrize("area", [area for area in AREAS if area not in ("evaluation", "events", "admin")])
def test_every_method_between_services_may_be_repeated(area: str) -> None:
    file = importlib.import_module(f"modelry.{area}.v1.internal_pb2").DESCRIPTOR
    every = [method for service in file.services_by_name.values() for method in service.methods]
    assert every
    assert [one.name for one in every if not one.GetOptions().idempotency_level] == []
