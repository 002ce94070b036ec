"""`up` in the foreground and in the background, and `down`."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.local.home import CannotStart, Home
from deploy.local.logs import open_log, rotate, tail
from deploy.local.shutdown import CONTROL_GRACE_SECONDS, WORKER_GRACE_SECONDS, end_launched, end_left_processes, lives
from deploy.local.stack import PYTHON_PATH
from deploy.local.supervisor import Options, Supervisor, noted_processes
from services.chassis.launch import SET_ALWAYS, shim

Announce = Callable[[Home, dict[str, Any]], None]
# What an orderly stop may take: doors and services, then workers, then the ground.
STOP_SECONDS = 3 * CONTROL_GRACE_SECONDS + 15 + WORKER_GRACE_SECONDS


def serve(path: Path, options: Options, announce: Announce) -> None:
    """Serve until SIGTERM or SIGINT. Raises CannotStart."""
    asyncio.run(_serve(path, options, announce))


async def _serve(path: Path, options: Options, announce: Announce) -> None:
    main = asyncio.current_task()
    assert main is not None
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    supervisor = Supervisor(path, options)
    starting = asyncio.create_task(supervisor.start())

    def stop() -> None:
        stopping.set()
        starting.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # closing the terminal of a detached start ends nothing
    try:
        await starting
    except asyncio.CancelledError:
        if stopping.is_set():
            return
        raise
    try:
        announce(supervisor.home, supervisor.home.state())
        await stopping.wait()
    finally:
        await supervisor.stop()


def serve_detached(path: Path, options: Options, announce: Announce) -> None:
    """Start a supervisor of its own session, and return once it is ready. Raises CannotStart with its reason.

    When this home is served already, that is announced: what was asked for is so.
    """
    home = Home(path)
    if home.is_locked() and home.state().get("ready"):
        _refuse_other_ports(home, options)
        announce(home, home.state())
        return
    home.prepare()
    log = home.logs / "supervisor.log"
    rotate(log)
    told, ready = os.pipe()
    descriptor = open_log(log)
    wanted = json.dumps({"ports": dict(options.ports), "host": options.host, "ready_seconds": options.ready_seconds})
    argv = [sys.executable, "-P", "-m", "deploy.local.detached", str(home.path), wanted, str(ready)]
    # Its log is UTF-8, whatever the terminal of this command shows.
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH, **SET_ALWAYS, "PYTHONIOENCODING": "utf-8"}
    try:
        process = subprocess.Popen(
            argv,
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            pass_fds=(ready,),
        )
    finally:
        os.close(ready)
        os.close(descriptor)
    _wait_told(home, told, process)
    announce(home, home.state())


def _wait_told(home: Home, told: int, process: subprocess.Popen[bytes]) -> None:
    """Read the one line that the background says: `ready`, or why it cannot start."""
    with os.fdopen(told, "r", encoding="utf-8") as pipe:
        try:
            word = pipe.read()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
    if word != "ready":
        raise CannotStart(word or f"The supervisor ended at its start:\n{tail(home.logs / 'supervisor.log')}")


def _refuse_other_ports(home: Home, options: Options) -> None:
    ports = home.state().get("ports", {})
    for name, wanted in options.ports.items():
        if wanted is not None and wanted != ports.get(name):
            raise CannotStart(f"{home.path} is up with {name} port {ports.get(name)}: modelry down first to move it")


def run_detached(path: Path, options: Options, ready: int) -> None:
    """The background process: says `ready` or the reason, once, through the descriptor."""

    def say(word: str) -> None:
        with contextlib.suppress(OSError):  # nobody waits any more: serve all the same
            os.write(ready, word.encode())
        os.close(ready)

    try:
        serve(path, options, lambda _home, _state: say("ready"))
    except CannotStart as error:
        say(str(error))
        raise SystemExit(1) from None


async def end_everything(home: Home) -> bool:
    """Stop the supervisor in order; then end whatever still lives of this home. False when there was nothing."""
    if not home.path.is_dir():
        return False
    state = home.state()
    supervisor = state.get("supervisor") or {}
    served = home.is_locked() and shim.is_alive(supervisor)
    if served:
        await _end_supervisor(int(supervisor["pid"]))
    ended = await end_left_processes(home.path, noted_processes(state))
    launched = await end_launched(home.path)
    return served or ended + launched > 0


async def _end_supervisor(pid: int) -> None:
    stat = shim.read_stat(pid)
    number = signal.SIGTERM
    deadline = time.monotonic() + STOP_SECONDS
    while stat is not None and lives(stat):
        if number == signal.SIGTERM or time.monotonic() > deadline:
            shim.kill_process(stat, number)
            number = signal.SIGKILL
        await asyncio.sleep(0.05)
