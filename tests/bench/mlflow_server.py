"""MLflow's tracking server, as its users start it, in an environment of its own.

The environment is made once in `.bench/` (git ignores it) from `requirements-mlflow.txt`. `MODELRY_BENCH_MLFLOW` names
the `mlflow` program of an environment that is there already.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from deploy.local.files import choose_port

PROGRAM_VARIABLE = "MODELRY_BENCH_MLFLOW"
REQUIREMENTS = Path(__file__).with_name("requirements-mlflow.txt")
ENVIRONMENT = Path(__file__).parents[2] / ".bench" / "mlflow"
READY_SECONDS, STOP_SECONDS = 180.0, 10.0


def find_program() -> Path:
    """The `mlflow` program; makes its environment first where that is not there.

    Raises: FileNotFoundError: the variable names no file. subprocess.CalledProcessError: pip could not install it.
    """
    if named := os.environ.get(PROGRAM_VARIABLE):
        if not Path(named).is_file():
            raise FileNotFoundError(f"{PROGRAM_VARIABLE} names {named}, which is not there.")
        return Path(named).absolute()
    stamp, wanted = ENVIRONMENT / "installed.txt", REQUIREMENTS.read_text("utf-8")
    if not stamp.is_file() or stamp.read_text("utf-8") != wanted:
        print(f"installing {wanted.strip()} in .bench/mlflow", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
        pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "-qq", "--requirement"]
        subprocess.run([*pip, str(REQUIREMENTS)], check=True)
        stamp.write_text(wanted, "utf-8")
    return ENVIRONMENT / "bin" / "mlflow"


class MlflowServer:
    """`mlflow server` at its defaults (SQLite, four worker processes) in an empty folder. Use as `with`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = choose_port()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        words = [str(find_program()), "server", "--port", str(self.port)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHON"))}
        environment["DO_NOT_TRACK"] = "true"
        with (self._folder / "mlflow.log").open("wb") as log:
            self._process = subprocess.Popen(
                words, cwd=self._folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stop()

    @property
    def process(self) -> psutil.Process:
        """The process that started the workers."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self._process is not None and self._process.poll() is None:
            with suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
                return
            time.sleep(0.5)
        tail = (self._folder / "mlflow.log").read_text("utf-8", "replace")[-2000:]
        raise RuntimeError(f"MLflow's server did not start:\n{tail}")

    def _stop(self) -> None:
        """End the server with all its workers."""
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
