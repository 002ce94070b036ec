"""A home that an earlier version made, killed while a job trained, an import read and a deployment served: it goes on.

Only through the doors that users have, so that this holds whatever the modules are called. See tests/homes/README.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import OpenAI

from tests.homes.archive import read_list, read_lists, unpack
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ARCHIVES = sorted((Path(__file__).parents[1] / "homes").glob("home-*.tar.xz"))
# What may differ afterwards: where the home answers, what its deployment does, when a key was used.
MOVING = {
    "credentials": {"endpoint"},
    "deployments": {"state", "ready_replicas", "base_url", "curl", "etag", "version", "cause"},
    "apiKeys": {"last_use_time"},
}
LONGEST_HOURS = 1.0


@dataclass(frozen=True)
class Opened:
    """An old home that works again, and what it held."""

    stack: Stack
    expected: dict[str, Any]

    def list(self, path: str) -> list[dict[str, Any]]:
        """A whole list of the API."""
        return list(read_list(self.stack.http, self.stack.admin_key, path))


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name)
def old(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """An archived home, opened by this version."""
    home, expected = unpack(request.param, tmp_path_factory.mktemp("old"))
    stack = Stack(home)
    try:
        stack.up()
        yield Opened(stack, expected)
    finally:
        stack.down()


def test_everything_made_before_is_listed(old: Opened) -> None:
    found = read_lists(old.stack.http, old.stack.admin_key)
    for path, before in old.expected["lists"].items():
        moving = MOVING.get(path, set())
        after = {identity(item): item for item in found[path]}
        for item in before:
            again = after[identity(item)]
            assert {name: again.get(name) for name in item if name not in moving} == {
                name: value for name, value in item.items() if name not in moving
            }, path


def test_the_job_goes_on_from_its_checkpoint_and_succeeds(old: Opened) -> None:
    client, job = old.stack.client, old.expected["job"]
    *_, ended = client.watch_job(job=job)
    assert ended.failure.message == ""
    assert ended.attempt_count > 1
    assert [item["state"] for item in old.list("jobs") if item["id"] == job] == ["SUCCEEDED"]
    steps = [point.step for point in client.read_job_metrics(job=job) if "loss" in point.values]
    assert steps == list(range(1, ended.progress.total_steps + 1))
    events = [event["happening"] for event in old.list("events") if event["resource_id"] == job]
    assert "resuming" in events
    assert [word for word in events if word in ("succeeded", "failed", "stopped")] == ["succeeded"]
    assert ended.best_checkpoint_id in {checkpoint["id"] for checkpoint in old.list(f"jobs/{job}/checkpoints")}
    assert {line.attempt for line in client.read_job_logs(job=job) if "loss" in line.text} >= {1, 2}


def test_the_import_begins_again_and_succeeds(old: Opened) -> None:
    importing = old.expected["import"]
    *_, ended = old.stack.client.watch_dataset_version(dataset=importing["dataset"], version=importing["version"])
    assert ended.failure.message == ""
    [version] = old.list(f"datasets/{importing['dataset']}/versions")
    assert (version["state"], version["row_count"]) == ("PUBLISHED", importing["rows"])


def test_the_deployment_answers_with_its_old_key(old: Opened) -> None:
    deployment = old.expected["deployment"]
    changes = old.stack.client.watch_deployment(deployment=deployment["id"])
    next(seen for seen in changes if seen.ready_replicas)
    question: Any = [{"role": "user", "content": "Say number 3"}]
    with OpenAI(base_url=f"{old.stack.http}/v1", api_key=deployment["key"]) as client:
        answer = client.chat.completions.create(model=deployment["name"], messages=question, max_tokens=8)
    assert answer.choices[0].finish_reason


def test_events_of_before_are_paged_first_and_once(old: Opened) -> None:
    before = [event["id"] for event in old.expected["lists"]["events"]]
    after = [event["id"] for event in old.list("events")]
    assert after[: len(before)] == before
    assert len(set(after)) == len(after)


def test_nobody_pays_for_the_time_in_which_nothing_ran(old: Opened) -> None:
    hours = [float(record["quantity"]) for record in old.list("usageRecords") if record["item"] == "replica-hour"]
    assert sum(hours) < LONGEST_HOURS


def test_down_leaves_no_process(old: Opened) -> None:
    old.stack.down()
    assert [process.pid for process in psutil.process_iter() if works_in(process, old.stack.home)] == []


def identity(item: dict[str, Any]) -> Any:
    """What tells the items of one list apart."""
    return item.get("id") or item.get("item") or (item.get("name"), item.get("target"), item.get("index"))


def works_in(process: psutil.Process, home: Path) -> bool:
    """Whether a process belongs to a home."""
    try:
        named = str(home) in " ".join(process.cmdline()) or process.environ().get("MODELRY_HOME") == str(home)
    except (psutil.Error, OSError):
        return False
    return named and process.pid != os.getpid()
