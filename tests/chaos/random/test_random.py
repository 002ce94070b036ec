"""Ten random kills and hold-ups while all works: nothing is lost, nothing is done twice."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tests.chaos.random.__main__ import SETTINGS, run
from tests.stack import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(420)]

KILLS, SEED, QUIET_SECONDS = 10, 298, 240.0


def test_ten_kills_break_no_promise(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "modelry.toml").write_text(SETTINGS, "utf-8")
    wanted = argparse.Namespace(kills=KILLS, quiet_seconds=QUIET_SECONDS, no_replica=True)
    broken, figures = run(Stack(home), tmp_path, SEED, wanted)
    print(figures)
    assert broken == []
