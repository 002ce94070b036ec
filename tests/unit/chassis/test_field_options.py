"""The protos' options are the only list of what may be filtered, sorted and how large a number may be."""

from typing import Any

import pytest

from gateway.openapi import document
from modelry.common.v1 import options_pb2
from modelry.evaluation.v1 import evaluation_pb2
from modelry.training.v1 import training_pb2
from services.chassis.errors import Invalid
from services.chassis.field_options import bound_words, marked, ranges
from services.chassis.rpc.validation import validate
from services.training.checks import RANGES

pytestmark = pytest.mark.unit


def test_marked_fields_are_those_of_the_protos() -> None:
    sample = evaluation_pb2.Sample.DESCRIPTOR
    assert set(marked(sample, options_pb2.filterable)) == {"task", "target", "index", "group", "score"}
    assert set(marked(sample, options_pb2.sortable)) == {"index", "score"}


@pytest.mark.parametrize(("pair", "words"), [((0, 1), "from 0 to 1"), ((0, float("inf")), "at least 0")])
def test_bounds_in_words(pair: tuple[float, float], words: str) -> None:
    assert bound_words(*pair) == words


@pytest.mark.parametrize("name", sorted(ranges(training_pb2.Hyperparameters.DESCRIPTOR)))
def test_the_bounds_that_are_shown_are_those_that_are_enforced(name: str) -> None:
    """`/openapi.json` showed 0 where training refused everything below 16."""
    low, high = RANGES[name]
    schema: dict[str, Any] = document()["components"]["schemas"]["Hyperparameters"]["properties"][name]
    largest = {"int32": 2**31 - 1, "int64": 2**63 - 1}.get(schema.get("format", ""), float("inf"))
    assert (schema["minimum"], schema.get("maximum", largest)) == (low, min(high, largest))
    with pytest.raises(Invalid):
        validate(training_pb2.Hyperparameters(**{name: -1}))


def test_fifteen_tokens_are_refused_before_training_sees_them() -> None:
    with pytest.raises(Invalid, match="from 16 to"):
        validate(training_pb2.Hyperparameters(cutoff_length=15))
