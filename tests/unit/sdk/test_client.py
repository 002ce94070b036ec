"""Requests as the client makes them."""

from typing import Any

import pytest

from modelry.api_methods import methods
from modelry.client import build_request

pytestmark = pytest.mark.unit
UPDATE = next(method for method in methods() if method.name == "UpdateJob")


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({"job": {"id": "tune", "title": ""}}, ["id", "title"]),  # an empty title takes the title away
        ({"job": {"id": "tune", "title": "a"}, "update_mask": "metadata"}, ["metadata"]),
        ({"job": UPDATE.response(id="tune", title="a")}, []),  # the service takes what is set
    ],
)
def test_the_fields_given_are_the_mask_of_an_update_as_over_http(fields: dict[str, Any], paths: list[str]) -> None:
    assert list(build_request(UPDATE, fields).update_mask.paths) == paths  # type: ignore[attr-defined]
