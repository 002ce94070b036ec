"""One installation on a machine with all of these at once: a proxy variable that leads nowhere, the remains of other
tools, a home with Chinese letters and blanks below a long temporary folder, a start from a project that shadows us,
doors on `::1`, a quota of less than two cores, no locale, a user without a name and a home, and a store with a
certificate of a private authority.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import OpenAI

from modelry.evaluation.v1 import evaluation_pb2
from tests.certificates import Authority
from tests.chaos.ground.quota import quota
from tests.hostile_store import HostileStore, hostile_store
from tests.stack import NAMELESS, Stack, Walk, can_be_nameless, free_port

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

QUESTION: Any = [{"role": "user", "content": "Say number 3"}]
MODELRY = str(Path(sys.executable).parent / "modelry")
UP_SECONDS = 120
CPUS = 1.5
"""Of a quota: one core for programs."""
TAKEN = "taken from the current folder"
# Each is a name of ours, of the standard library, or of a library that we use.
SHADOWS = ("services/__init__", "gateway/__init__", "deploy/__init__", "modelry", "queue", "random", "yaml", "grpc")
SHADOWS += ("tokenizers", "secrets", "calendar", "aiohttp", "pyarrow")
NOBODY = "http://127.0.0.1:9"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
LEFT_OVER = {
    **{name: NOBODY for proxy in PROXIES for name in (proxy, proxy.upper())},
    "AWS_PROFILE": "no-such-profile",
    "AWS_ENDPOINT_URL": NOBODY,
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_CA_BUNDLE": "/does/not/exist.pem",
    "REQUESTS_CA_BUNDLE": "/does/not/exist.pem",
    "SSL_CERT_FILE": "/does/not/exist.pem",
    "RCLONE_CONFIG_PASS": "left-over",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "VLLM_PORT": "tcp://10.0.0.1:8000",
    "LC_ALL": "POSIX",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONUTF8": "0",
}


@dataclass(frozen=True)
class Machine:
    """Somebody's machine: the folder of their project, their environment, and the home of the installation."""

    project: Path
    home: Path
    environment: Mapping[str, str]
    before: tuple[str, ...]
    """What stands before each command."""

    def modelry(self, *arguments: str) -> str:
        """Run a command line as the user does; returns what it printed."""
        command = [*self.before, MODELRY, *arguments, "--home", str(self.home)]
        options = {"cwd": self.project, "env": self.environment, "capture_output": True, "timeout": 100}
        options |= {"encoding": "utf-8"}
        done = subprocess.run(command, check=False, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    def serve(self) -> subprocess.Popen[str]:
        """Start in the foreground; returns when all is ready."""
        ports = [word for door in ("--port", "--grpc-port", "--nats-port") for word in (door, str(free_port()))]
        command = [*self.before, MODELRY, "up", "--home", str(self.home), "--timeout", str(UP_SECONDS), *ports]
        process = subprocess.Popen(
            [*command, "--host", "[::1]"],
            cwd=self.project,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "is up" in line:
                return process
        pytest.fail(said)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """One with all of it."""
    with tempfile.TemporaryDirectory(prefix="ground-") as folder:
        place = Path(folder) / "a-long-scratch-folder-of-a-cluster" / "-".join(["another"] * 12)
        project = place / "project"
        for name in SHADOWS:
            path = project / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"raise SystemExit('{TAKEN}: ' + __file__)\n")
        user = place / "user"
        (user / ".aws").mkdir(parents=True)
        (user / ".aws" / "config").write_text("[default]\nendpoint_url = http://127.0.0.1:9\nmax_attempts = many\n")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MODELRY_", "PYTHONPATH"))}
        for name in ("no_proxy", "NO_PROXY"):
            kept.pop(name, None)
        environment = {**kept, **LEFT_OVER, "HOME": str(user), "TMPDIR": str(place)}
        nameless = NAMELESS if can_be_nameless() else ()
        with quota(CPUS) as limited:
            yield Machine(project, place / "模型 平台" / "我的 home", environment, (*limited, *nameless))


def walk_around(machine: Machine) -> None:
    """The journey by clients of IPv6; the evaluation comes when a deployment holds the one core."""
    walk = Walk(Stack(machine.home), machine.project)
    try:
        for stage in (walk.model, walk.data, walk.tune, walk.publish, walk.deploy, walk.evaluate):
            stage()
    finally:
        walk.client.close()
    shown = walk.resources["key"]
    assert shown.base_url.startswith("http://[::1]:")
    assert walk.resources["evaluation"].state == evaluation_pb2.Evaluation.SUCCEEDED
    with OpenAI(base_url=shown.base_url, api_key=shown.secret) as client:
        answer = client.chat.completions.create(model="numbers", messages=QUESTION, max_tokens=4)
    assert answer.usage is not None and answer.usage.completion_tokens


@pytest.fixture
def company_store(machine: Machine, tmp_path: Path) -> Iterator[HostileStore]:
    """A store that the installation may use and trusts by its settings alone."""
    authority = Authority(tmp_path)
    certificate, key, _ = authority.issue()
    (tmp_path / "chain.pem").write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem")
    machine.home.mkdir(parents=True)
    settings = f'ca_file = "{authority.file}"\nlocal_stores = ["127.0.0.1"]\n'
    (machine.home / "modelry.toml").write_text(settings, "utf-8")
    with hostile_store(context) as server:
        server.keys = ("rows/1.jsonl",)
        yield server


def test_it_starts_takes_data_and_goes_down(machine: Machine, company_store: HostileStore) -> None:
    rows = [{"instruction": f"说 {number}", "output": f"{number}."} for number in range(4)]
    data = machine.project / "数据 1.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    served = machine.serve()
    try:
        assert json.loads(machine.modelry("status", "--json"))["ready"]
        assert json.loads(machine.modelry("projects", "create", "--name", "desk", "--json"))["name"] == "desk"
        version = json.loads(machine.modelry("datasets", "import", "numbers", str(data), "--json"))
        assert (version["state"], int(version["row_count"])) == ("PUBLISHED", 4)
        assert "numbers" in machine.modelry("datasets", "list")
        machine.modelry("objects", "browse")
        addresses = json.loads(machine.modelry("status", "--json"))["addresses"]
        assert addresses["http"].startswith("http://[::1]:") and addresses["grpc"].startswith("[::1]:")
        (finding,) = [one for one in json.loads(machine.modelry("doctor", "--json")) if one["name"] == "machine"]
        assert not machine.before or "1 core, " in finding["words"], finding
        walk_around(machine)
        endpoint = company_store.access.endpoint.replace("http:", "https:")
        keys = ("--access-key", "a", "--secret-key", "s")
        machine.modelry("credentials", "create", "--name", "company", "--endpoint", endpoint, *keys)
        assert "1.jsonl" in machine.modelry("objects", "browse", "--credential", "company", "--bucket", "keys")
    finally:
        machine.modelry("down")
        served.wait(30)
    assert [path.name for path in (machine.home / "logs").iterdir() if TAKEN in path.read_text("utf-8")] == []
    assert [one.pid for one in psutil.process_iter(["cmdline"]) if str(machine.home) in str(one.info["cmdline"])] == []
