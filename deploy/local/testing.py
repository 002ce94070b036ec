"""Real NATS, S3 and PostgreSQL servers for tests: started in a folder, stopped, killed and started again at will.

    with RealNats(folder) as nats:
        client = await nats_py.connect(nats.url, user="services", password=nats.passwords["services"])

The fixtures `nats_server`, `s3_server` and `postgres_server` of `tests/conftest.py` share one of each per test run.
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.local.files import choose_port
from deploy.local.health import answers
from deploy.local.nats_server import USERS, NatsServer
from deploy.local.object_server import BUCKET, REGION, ObjectServer

START_SECONDS = 20.0


class RealServer(ABC):
    """A server process of a test, with a fixed port, that can be stopped, killed and started again."""

    def __init__(self, folder: Path) -> None:
        """Nothing runs yet; `folder` is made when it is not there."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _launch(self) -> tuple[Sequence[str], dict[str, str]]:
        """Return the command and what its environment has beside ours."""

    @abstractmethod
    def _answers(self) -> bool:
        """Return whether it serves by now."""

    def start(self) -> Self:
        """Start it and wait until it answers."""
        command, environment = self._launch()
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._identity(),
            )
        wait_until(self._answers, START_SECONDS, self._dead_word)
        return self

    def _identity(self) -> dict[str, Any]:
        """Return who the process runs as, where that is not us."""
        return {}

    def _dead_word(self) -> str | None:
        if self.process is not None and self.process.poll() is not None:
            return f"the server ended at its start:\n{(self.folder / 'server.log').read_text()[-2000:]}"
        return None

    def stop(self, sign: int = signal.SIGTERM) -> None:
        """End it and see it dead; its data stays."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(sign)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        self.process = None

    def kill(self) -> None:
        """End it as a power cut would."""
        self.stop(signal.SIGKILL)

    def pause(self) -> None:
        """Stop its clock: connections stay, nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop and start on the same port with the same data."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class RealNats(RealServer):
    """nats-server with JetStream and the users of the embedded stack."""

    def __init__(self, folder: Path) -> None:
        """Passwords and `token_secret` (from which a `WorkerGate` answers for workers) are random."""
        super().__init__(folder)
        ports = [choose_port()]
        ports.append(choose_port(ports))
        self.passwords = {name: secrets.token_urlsafe(12) for name in USERS}
        self.token_secret = secrets.token_urlsafe(32)
        self.server = NatsServer(folder / "store", ports[0], ports[1], self.passwords, self.token_secret)

    @property
    def url(self) -> str:
        """Without credentials: clients name user and password."""
        return self.server.url

    def wipe(self) -> None:
        """Stop it and lose everything that it stored; `start` brings an empty one."""
        self.stop()
        shutil.rmtree(self.server.folder, ignore_errors=True)

    def _launch(self) -> tuple[Sequence[str], dict[str, str]]:
        config = self.folder / "nats.conf"
        self.server.write_config(config)
        return self.server.command(config), {}

    def _answers(self) -> bool:
        return answers(self.server.health_url, 500)


class RealObjects(RealServer):
    """`rclone serve s3` with the bucket of the embedded stack."""

    bucket = BUCKET
    region = REGION

    def __init__(self, folder: Path) -> None:
        """The key pair is random."""
        super().__init__(folder)
        self.access_key = "test"
        self.secret_key = secrets.token_urlsafe(12)
        self.server = ObjectServer(folder / "objects", choose_port(), self.access_key, self.secret_key)

    @property
    def url(self) -> str:
        """The endpoint."""
        return self.server.url

    def _launch(self) -> tuple[Sequence[str], dict[str, str]]:
        self.server.prepare()
        return self.server.command(), self.server.environment()

    def _answers(self) -> bool:
        return answers(self.server.url, 500)


def wait_until(true: Callable[[], bool], seconds: float, dead_word: Callable[[], str | None] = lambda: None) -> None:
    """Poll until it is so. Raises RuntimeError when `dead_word` has one, TimeoutError when the time is over."""
    deadline = time.monotonic() + seconds
    while not true():
        word = dead_word()
        if word is not None:
            raise RuntimeError(word)
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {seconds} s")
        time.sleep(0.02)
