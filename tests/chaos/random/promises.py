"""What must be true of an installation after chaos."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from modelry.client import Client, ModelryError
from tests.chaos.random.load import Ledger
from tests.stack import Stack, modelry

TERMINAL = {"job": {"succeeded", "failed", "stopped"}}


def broken_promises(stack: Stack, ledger: Ledger, seconds: float) -> list[str]:
    """Waits until all work has ended, then names every promise that was not kept."""
    stack.up()
    with Client(home=str(stack.home)) as client:
        broken = [f"no {kind} was acknowledged in the whole run" for kind in ledger.idle()]
        broken += [*ledger.wrong, *_unfinished(client, ledger, seconds)]
        broken += [*_lost(client, ledger), *_of_jobs(client, ledger), *_of_events(client)]
    if modelry("status", home=stack.home).returncode != 0:
        broken.append("not everything is ready again")
    return broken


def _wait(true: Callable[[], bool], deadline: float) -> bool:
    while time.monotonic() < deadline:
        try:
            if true():
                return True
        except ModelryError:
            pass
        time.sleep(1)
    return False


def _unfinished(client: Client, ledger: Ledger, seconds: float) -> Iterator[str]:
    """Work that did not come to its end in time."""
    deadline = time.monotonic() + seconds
    for name, job_id in ledger.jobs.items():
        if not _wait(lambda job_id=job_id: client.get_job(job=job_id).finish_time.seconds > 0, deadline):  # type: ignore[misc]
            yield f"job {name} ({job_id}) has not ended"
    for name, version_id in ledger.versions:
        if not _wait(lambda n=name, v=version_id: _imported(client, n, v), deadline):  # type: ignore[misc]
            yield f"import {name} ({version_id}) has not ended"
    if ledger.deployment:
        wanted = ledger.deployment
        if not _wait(lambda: client.get_deployment(deployment=wanted).ready_replicas == 1, deadline):
            yield "the deployment is not ready again"


def _imported(client: Client, dataset: str, version_id: str) -> bool:
    version = client.get_dataset_version(dataset=dataset, version=version_id)
    return bool(version.row_count or version.failure.reason)


def _lost(client: Client, ledger: Ledger) -> Iterator[str]:
    """What was acknowledged exists once."""
    kinds = {
        "job": ("list_jobs", "jobs", ledger.jobs),
        "stop-word list": ("list_stopword_lists", "stopword_lists", ledger.lists),
        "API key": ("list_api_keys", "api_keys", ledger.keys),
    }
    for kind, (method, field, told) in kinds.items():
        found = list(client.pages(method, field))
        names = Counter(one.name for one in found)
        ids = {one.id for one in found}
        yield from (f"{kind} {name} is gone" for name, told_id in told.items() if told_id not in ids)
        yield from (f"{kind} {name} exists {names[name]} times" for name in told if names[name] > 1)
    for dataset, version_id in ledger.versions:
        found = [one.id for one in client.pages("list_dataset_versions", "dataset_versions", dataset=dataset)]
        if found != [version_id]:
            yield f"data set {dataset} has the versions {found}, acknowledged was {version_id}"


def _of_jobs(client: Client, ledger: Ledger) -> Iterator[str]:
    """One terminal event for each job, and of each that succeeded the whole curve, once."""
    for name, job_id in ledger.jobs.items():
        job: Any = client.get_job(job=job_id)
        ended = job.DESCRIPTOR.enum_types_by_name["State"].values_by_number[job.state].name.lower()
        ledger.counts[f"job {ended}"] += 1
        words = [event.happening for event in client.pages("list_events", "events", resource="job", id=job_id)]
        terminal = [word for word in words if word in TERMINAL["job"]]
        if terminal != [ended]:
            yield f"job {name} ended {ended}, and its terminal events are {terminal}"
        steps = [point.step for point in client.read_job_metrics(job=job_id) if "loss" in point.values]
        if ended == "succeeded" and steps != list(range(1, job.progress.total_steps + 1)):
            yield f"job {name}: the curve of {job.progress.total_steps} steps has the steps {steps}"
        if ended == "failed":
            ledger.counts[f"job failed: {job.failure.reason}"] += 1


def _of_events(client: Client) -> Iterator[str]:
    """Every event of a resource has a higher version than the one before."""
    last: dict[tuple[str, str], Any] = {}
    for event in sorted(client.pages("list_events", "events"), key=lambda one: int(one.sequence)):
        before = last.get((event.resource, event.resource_id))
        if before is not None and event.data.version <= before.data.version:
            pair = f"{before.type} {before.data.version}, then {event.type} {event.data.version}"
            yield f"the events of {event.resource} {event.resource_id} have the versions {pair}"
        last[event.resource, event.resource_id] = event


def left_processes(home: Path) -> list[str]:
    """Processes that still work in a home."""
    left = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            mine = str(home) in words or process.environ().get("MODELRY_HOME") == str(home)
        except (psutil.Error, OSError):
            continue
        if mine and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
            left.append(f"{process.pid} {words[:120]}")
    return left
