"""`make demo`: the journey on the real model; it ends with 0 only when tuned is clearly better than base."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import environment, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1900)]

DEMO_SECONDS = 1800


def test_the_demo_succeeds_and_prints_its_table(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "deploy.demo",
        "--home",
        str(tmp_path / "demo"),
        "--port",
        str(free_port()),
        "--down",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEMO_SECONDS, check=False, env=environment())
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    for stage in ("import", "quote", "fine-tune", "publish", "evaluate", "deploy", "claim key", "ask"):
        assert stage in done.stdout
    assert "no significant difference" in done.stdout
    assert "curl" in done.stdout
