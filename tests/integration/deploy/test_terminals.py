"""The command line under every locale, or none: text in, text out, JSON that is UTF-8; and users without a name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import NAMELESS, can_be_nameless

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

MODELRY = str(Path(sys.executable).parent / "modelry")
TOLD = {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
TERMINALS = {
    "no locale": {"LC_ALL": "C"},
    "a Python that was told so": {"LC_ALL": "POSIX", **TOLD},
    "an unknown locale": {"LANG": "xx_YY.UTF-8", **TOLD},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "gbk": {"PYTHONIOENCODING": "gbk"},
}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """The command line with nothing else in its environment."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/", **variables}
    return subprocess.run([MODELRY, *arguments], capture_output=True, check=False, timeout=50, env=environment)


@pytest.mark.parametrize("terminal", TERMINALS.values(), ids=TERMINALS)
def test_json_is_utf_8_and_no_letter_ends_a_command(terminal: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "模型 🙂"
    done = run("status", "--json", "--home", str(home), **terminal)
    assert json.loads(done.stdout.decode("utf-8"))["home"] == str(home), done.stderr
    shown = run("status", "--home", str(home), **terminal)
    assert (shown.returncode, shown.stderr) == (4, b"")
    assert b"Modelry is not running in " in shown.stdout
    refused = run("models", "list", "--home", str(home), **terminal)
    assert (refused.returncode, refused.stdout) == (4, b"")
    assert b"No installation at " in refused.stderr and b"Traceback" not in refused.stderr


@pytest.mark.skipif(not can_be_nameless(), reason="no user namespaces here")
@pytest.mark.parametrize("variables", [{"HOME": "/proc"}, {}], ids=["no place", "unset"])
def test_a_user_without_a_name_or_a_home_is_told_what_to_do(variables: dict[str, str]) -> None:
    for arguments in (["up"], ["models", "list"]):
        command = [*NAMELESS, MODELRY, *arguments]
        environment = {"PATH": os.environ["PATH"], **variables}
        done = subprocess.run(command, capture_output=True, check=False, timeout=50, env=environment, cwd="/proc")
        said = (done.stdout + done.stderr).decode("utf-8")
        assert done.returncode in (1, 2, 4), said
        assert "Traceback" not in said
        assert "--home" in said
