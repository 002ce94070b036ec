"""The whole installation, started once for a run as a user would, and a journey through it with a tiny model."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from deploy.local.home import Home
from deploy.local.stack import ACCESS_KEY
from modelry.client import Client
from services.chassis.objects import ObjectStore, StoreAccess, upload_folder
from tests.tiny_model import build_tiny_model

UP_SECONDS = 90
ROWS = 32


NAMELESS = ("unshare", "--user", "--map-user=54321", "--map-group=54321", "--")
"""Before a command: it runs as a user id that no name belongs to, and without root."""


def can_be_nameless() -> bool:
    """Whether this machine allows that."""
    try:
        return subprocess.run([*NAMELESS, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def modelry(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line for a home."""
    command = [sys.executable, "-m", "modelry.cli", *arguments, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=UP_SECONDS, check=False)


@dataclass
class Stack:
    """A running installation."""

    home: Path
    _clients: list[Client] = field(default_factory=list)

    def up(self) -> None:
        """Start it, or find it started."""
        known = (self.home / "state.json").exists()
        ports = [] if known else [
            *("--port", str(free_port())), *("--grpc-port", str(free_port())), *("--nats-port", str(free_port()))
        ]  # fmt: skip
        done = modelry("up", "--detach", *ports, home=self.home)
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        """Stop it."""
        for client in self._clients:
            client.close()
        modelry("down", home=self.home)

    @property
    def state(self) -> dict[str, Any]:
        """What `state.json` says: addresses, ports, processes."""
        state: dict[str, Any] = json.loads((self.home / "state.json").read_text("utf-8"))
        return state

    @property
    def http(self) -> str:
        """Address of the HTTP door."""
        return str(self.state["addresses"]["http"])

    @property
    def grpc(self) -> str:
        """Address of the gRPC door."""
        return str(self.state["addresses"]["grpc"])

    @property
    def admin_key(self) -> str:
        """The first admin key."""
        return (self.home / "admin.key").read_text("utf-8").strip()

    @cached_property
    def client(self) -> Client:
        """The admin in the project `default`."""
        return self.client_of("")

    def client_of(self, project: str, key: str = "") -> Client:
        """A client in a project."""
        made = Client(home=str(self.home), project=project, key=key)
        self._clients.append(made)
        return made

    @property
    def store(self) -> StoreAccess:
        """Root access to the embedded object store."""
        secret = Home(self.home).secret("objects_secret_key")
        return StoreAccess(self.state["addresses"]["objects"], ACCESS_KEY, secret, "us-east-1")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole installation in a folder of its own."""
    home = tmp_path_factory.mktemp("home")
    running = Stack(home)
    running.up()
    yield running
    running.down()


@dataclass(frozen=True)
class Journey:
    """What the tiny journey made, by kind: ids of the project `default`, and the tuned model's names."""

    ids: dict[str, str]
    resources: dict[str, Any]


@pytest.fixture(scope="session")
def journey(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Journey:
    """Import, fine-tune, publish, evaluate and deploy a tiny model, once for the run."""
    walk = Walk(stack, tmp_path_factory.mktemp("tiny"))
    walk.model()
    walk.data()
    walk.tune()
    walk.publish()
    walk.evaluate()
    walk.deploy()
    return Journey(walk.ids, walk.resources)


class Walk:
    """The stages of the tiny journey; `ids` and `resources` fill up on the way."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.client, self.stack, self.folder = stack.client, stack, folder
        self.ids: dict[str, str] = {}
        self.resources: dict[str, Any] = {}

    def model(self) -> None:
        build_tiny_model(self.folder / "model")
        bucket = self.client.get_server_info().bucket
        upload_folder(ObjectStore(self.stack.store), bucket, "tiny", self.folder / "model")
        made = self.client.create_model(model={"name": "tiny"})
        source = {"source": {"bucket": bucket, "prefix": "tiny"}}
        version = self.client.create_model_version(model="tiny", model_version=source)
        *_, version = self.client.watch_model_version(model="tiny", version=version.id)
        assert version.digest, version
        credential = {"name": "elsewhere", "endpoint": "http://192.0.2.1:9", "access_key": "a", "secret_key": "s"}
        stored = self.client.create_credential(credential=credential)
        self.ids |= {"model": made.id, "model_version": version.id, "credential": stored.id}

    def data(self) -> None:
        path = self.folder / "train.jsonl"
        rows = [{"instruction": f"Say number {n}", "output": f"The number is {n}."} for n in range(ROWS)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        pairs = self.folder / "pairs.jsonl"
        pairs.write_text(
            "".join(json.dumps({"question": r["instruction"], "answer": r["output"]}) + "\n" for r in rows[:4])
        )
        for name, source in (("numbers", path), ("numbers-test", pairs)):
            file = self.client.upload(str(source))
            version = self.client.create_dataset_version(
                dataset=name, dataset_version={"file_id": file.id}, create_dataset=True
            )
            *_, version = self.client.watch_dataset_version(dataset=name, version=version.id)
            assert version.row_count, version
        self.ids |= {"file": file.id, "dataset": version.dataset_id, "dataset_version": version.id}

    def tune(self) -> None:
        recipe = {"epochs": 2, "batch_size": 8, "lora_rank": 4, "learning_rate": 1e-3, "cutoff_length": 64}
        job = {"name": "tune", "model": "tiny", "datasets": [{"ref": "numbers"}], "hyperparameters": recipe}
        quote = self.client.quote_job(job=job)
        made = self.client.create_job(job={**job, "quote_id": quote.id})
        *_, made = self.client.watch_job(job=made.id)
        assert made.best_checkpoint_id, made
        self.resources["job"] = made
        self.ids |= {"job": made.id, "checkpoint": made.best_checkpoint_id, "quote": quote.id}

    def publish(self) -> None:
        version = self.client.publish_checkpoint(checkpoint=self.ids["checkpoint"], model_name="numbers-model")
        self.resources["tuned"] = version
        alias = self.client.set_alias(model="numbers-model", alias="prod", version=str(version.number))
        self.ids |= {"tuned_version": version.id, "alias": alias.name, "tuned_model": version.model_id}

    def evaluate(self) -> None:
        words = self.client.create_stopword_list(stopword_list={"name": "few", "words": ["the"]})
        evaluation = {
            "baseline": {"model": "tiny", "label": "base"},
            "candidates": [{"model": "numbers-model", "label": "tuned"}],
            "tasks": [{"name": "own", "custom": {"dataset": "numbers-test"}}],
            "generation": {"max_tokens": 8},
        }
        made = self.client.create_evaluation(evaluation=evaluation)
        *_, made = self.client.watch_evaluation(evaluation=made.id)
        self.resources["evaluation"] = made
        self.ids |= {"evaluation": made.id, "stopword_list": words.id}

    def deploy(self) -> None:
        deployment = {"name": "numbers", "model": "numbers-model", "replicas": 1, "engine": {"max_model_length": 256}}
        made = self.client.create_deployment(deployment=deployment)
        changes = self.client.watch_deployment(deployment=made.id)
        made = next(seen for seen in changes if seen.ready_replicas)
        replica = self.client.list_replicas(deployment=made.id).replicas[0]
        key = self.client.claim_deployment_key(deployment=made.id)
        self.resources |= {"deployment": made, "key": key}
        self.ids |= {"deployment": made.id, "replica": replica.id, "api_key": key.key_id}


def environment() -> dict[str, str]:
    """The environment without any variable of Modelry's."""
    return {key: value for key, value in os.environ.items() if not key.startswith("MODELRY_")}
