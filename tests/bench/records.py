"""Reads, updates and creates of records through the gateway's HTTP door, beside MLflow's tracking server, in turns.

Both stand on SQLite at their default settings and get the same load: 8 calls in flight, each connection on records of
its own. Our record is a model (GET by id; PATCH of its title, which emits an event; POST with a request id), MLflow's
is its counterpart, a registered model (get by its name, which is its id; update of its description; create). Rates are
medians, and a ratio is the median of the rounds' ratios, over the rounds in which other programs took the least of the
machine. CPU is what a process used over all rounds, what it does after the answer (the relay of events) included.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from tests.bench.http_load import Load, json_request, request_bytes
from tests.bench.mlflow_server import MlflowServer
from tests.bench.processes import find_process, supervisor
from tests.bench.sides import OPERATIONS, Sample, Side
from tests.stack import Stack

IN_FLIGHT, ROUNDS, KEPT_ROUNDS = 8, 9, 5
BUSY_SHARE = 0.15
"""Above this the ratios of rates say little, and those for the same CPU more."""


def run() -> dict[str, float]:
    """Rates of both, their ratios, and our CPU for a call in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="modelry-bench-") as folder:
        stack = Stack(Path(folder) / "home")
        stack.home.mkdir()
        with MlflowServer(Path(folder) / "mlflow") as peer:
            try:
                stack.up()
                found: dict[str, float] = uvloop.run(_measure(stack, peer))
                return found
            finally:
                stack.down()


class Modelry:
    """Models through the gateway's native API."""

    path = "/api/v1/models"

    def __init__(self, key: str) -> None:
        self._headers = {"authorization": f"Bearer {key}"}

    def create(self, title: str) -> bytes:
        """Makes a model with a request id."""
        new = uuid.uuid4().hex
        headers = {**self._headers, "idempotency-key": new}
        return json_request("POST", self.path, headers, {"name": f"bench-{new}", "title": title})

    def read(self, record: str) -> bytes:
        """Reads a model by id."""
        return request_bytes("GET", f"{self.path}/{record}", self._headers)

    def update(self, record: str, title: str) -> bytes:
        """Changes a title; the service emits `updated`."""
        return json_request("PATCH", f"{self.path}/{record}", self._headers, {"title": title})

    def id_in(self, answer: Mapping[str, Mapping[str, str]]) -> str:
        """The id of the model."""
        return str(answer["id"])


class Mlflow:
    """Registered models through MLflow's REST API."""

    path = "/api/2.0/mlflow/registered-models"

    def create(self, title: str) -> bytes:
        """Makes a registered model."""
        return json_request("POST", f"{self.path}/create", {}, {"name": uuid.uuid4().hex, "description": title})

    def read(self, record: str) -> bytes:
        """Reads a registered model by its name."""
        return request_bytes("GET", f"{self.path}/get?name={record}", {})

    def update(self, record: str, title: str) -> bytes:
        """Changes a description."""
        return json_request("PATCH", f"{self.path}/update", {}, {"name": record, "description": title})

    def id_in(self, answer: Mapping[str, Mapping[str, str]]) -> str:
        """The name of the registered model."""
        return answer["registered_model"]["name"]


async def _measure(stack: Stack, peer: MlflowServer) -> dict[str, float]:
    door = urlsplit(stack.http)
    parts = {
        "all": supervisor(stack),
        "service": find_process(stack, "services.registry"),
        "gateway": find_process(stack, "gateway"),
    }
    ours = Load(str(door.hostname), int(door.port or 80), IN_FLIGHT)
    modelry = Side("Modelry", Modelry(stack.admin_key), ours, parts)
    mlflow = Side("MLflow", Mlflow(), Load("127.0.0.1", peer.port, IN_FLIGHT), {"all": peer.process})
    for side in (modelry, mlflow):
        await side.prepare()
    for number in range(ROUNDS):
        await _measure_round(number, modelry, mlflow)
    return _figures(modelry, mlflow)


async def _measure_round(number: int, modelry: Side, mlflow: Side) -> None:
    """Every operation once on each side; who begins alternates."""
    for operation in OPERATIONS:
        for side in (modelry, mlflow) if number % 2 == 0 else (mlflow, modelry):
            await side.measure(operation)
        ours, theirs = modelry.samples[operation][-1], mlflow.samples[operation][-1]
        print(
            f"round {number + 1}: {operation}s/s {ours.rate:.0f} ({ours.others:.0%} of the machine taken by others), "
            f"MLflow {theirs.rate:.0f} ({theirs.others:.0%})",
            file=sys.stderr,
        )


def _figures(modelry: Side, mlflow: Side) -> dict[str, float]:
    found: dict[str, float] = {}
    kept: list[tuple[Sample, Sample]] = []
    for operation in OPERATIONS:
        name = f"{operation}s"
        pairs = list(zip(modelry.samples[operation], mlflow.samples[operation], strict=True))
        quiet = sorted(pairs, key=lambda pair: pair[0].others + pair[1].others)[:KEPT_ROUNDS]
        kept += quiet
        found[f"{name}/s"] = statistics.median(ours.rate for ours, _ in quiet)
        found[f"{name}/s, MLflow"] = statistics.median(theirs.rate for _, theirs in quiet)
        found[f"{name}/s, ratio to MLflow"] = statistics.median(ours.rate / theirs.rate for ours, theirs in quiet)
        ours_cpu, theirs_cpu = (side.cpu_of_call(operation, "all") for side in (modelry, mlflow))
        found[f"{name} for the same CPU, ratio to MLflow"] = theirs_cpu / ours_cpu
        for part in ("service", "gateway"):
            found[f"{part} CPU for one {operation}, ms"] = modelry.cpu_of_call(operation, part) * 1e3
    for side in (modelry, mlflow):
        found[f"load generator's CPU for one call to {side.name}, ms"] = side.client_cpu_of_call() * 1e3
    others = statistics.mean(sample.others for pair in kept for sample in pair)
    if others > BUSY_SHARE:
        print(f"Other programs took {others:.0%} of the machine: measure again when it is quiet.", file=sys.stderr)
    return {**found, "share of the machine taken by other programs, %": others * 100}
