"""One installation on a machine with all of these at once: a proxy variable that leads nowhere, the remains of other
tools, a home with Chinese letters and blanks below a long temporary folder, a start from a project that shadows us, and
a store whose certificate a private authority signed.
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

import psutil
import pytest

from tests.certificates import Authority
from tests.hostile_store import HostileStore, hostile_store
from tests.stack import free_port

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

MODELRY = str(Path(sys.executable).parent / "modelry")
UP_SECONDS = 60
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
}


@dataclass(frozen=True)
class Machine:
    """Somebody's machine: the folder of their project, their environment, and the home of the installation."""

    project: Path
    home: Path
    environment: Mapping[str, str]

    def modelry(self, *arguments: str) -> str:
        """Run a command line as the user does; returns what it printed."""
        command = [MODELRY, *arguments, "--home", str(self.home)]
        options = {"cwd": self.project, "env": self.environment, "capture_output": True, "text": True, "timeout": 60}
        done = subprocess.run(command, check=False, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    def serve(self) -> subprocess.Popen[str]:
        """Start in the foreground; returns when all is ready."""
        ports = [word for door in ("--port", "--grpc-port", "--nats-port") for word in (door, str(free_port()))]
        command = [MODELRY, "up", "--home", str(self.home), "--timeout", str(UP_SECONDS), *ports]
        process = subprocess.Popen(
            command, cwd=self.project, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
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
        yield Machine(project, place / "模型 平台" / "我的 home", environment)


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
        endpoint = company_store.access.endpoint.replace("http:", "https:")
        keys = ("--access-key", "a", "--secret-key", "s")
        machine.modelry("credentials", "create", "--name", "company", "--endpoint", endpoint, *keys)
        assert "1.jsonl" in machine.modelry("objects", "browse", "--credential", "company", "--bucket", "keys")
    finally:
        machine.modelry("down")
        served.wait(30)
    assert [path.name for path in (machine.home / "logs").iterdir() if TAKEN in path.read_text("utf-8")] == []
    assert [one.pid for one in psutil.process_iter(["cmdline"]) if str(machine.home) in str(one.info["cmdline"])] == []
