"""Every event of a resource carries a higher version than the one before: of whatever the journey made and deleted."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from tests.contract.surface.test_deleted import BUILDERS, MAKERS, deleter_of
from tests.stack import Journey, Stack

pytestmark = pytest.mark.contract


def _page(stack: Stack, token: str) -> dict[str, Any]:
    url = f"{stack.http}/api/v1/events?page_size=1000&page_token={token}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {stack.admin_key}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def test_every_event_of_a_resource_is_newer_than_the_one_before(stack: Stack, journey: Journey) -> None:
    client, ids = stack.client, journey.ids
    published = client.publish_checkpoint(checkpoint=ids["checkpoint"], model_name="by-hand")
    client.delete_model(model=published.model_id)
    for method in MAKERS:  # what is made and deleted at once
        if method.name in ("CreateDataset", "CreateModel", "CreateCredential", "CreateStopwordList"):
            made = client.call(method, BUILDERS[method.name](client, ids))
            deleter = deleter_of(method)
            assert deleter is not None
            client.call(deleter, {deleter.template.rsplit("{", 1)[1].rstrip("}"): made.id})
    seen: dict[tuple[str, str], int] = {}
    token, wrong, kinds = "", [], set()
    while True:
        page = _page(stack, token)
        for event in page.get("events", []):
            key, version = (event["resource"], event["resource_id"]), int(event["data"]["version"])
            kinds.add((event["resource"], event["happening"]))
            if version <= seen.get(key, 0):
                wrong.append(f"{key} {event['happening']}: {version} after {seen[key]}")
            seen[key] = version
        token = page.get("next_page_token", "")
        if not token:
            break
    assert not wrong
    deleted = {("model", "deleted"), ("modelVersion", "deleted"), ("dataset", "deleted"), ("job", "published")}
    assert deleted <= kinds
