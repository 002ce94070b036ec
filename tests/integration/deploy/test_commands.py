"""What the commands say when something is not as it should be."""

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.local import commands
from deploy.local.home import PORTS, Home

pytestmark = pytest.mark.integration


def run(name: str, home: Path, *flags: str) -> Result:
    return CliRunner().invoke(getattr(commands, name), ["--home", str(home), *flags])


def test_status_of_a_home_where_nothing_runs_is_not_reachable(tmp_path: Path) -> None:
    shown = run("status", tmp_path / "none")
    assert shown.exit_code == 4
    assert "modelry up --home" in shown.output
    as_json = json.loads(run("status", tmp_path / "none", "--json").output)
    assert (as_json["running"], as_json["ready"], as_json["processes"]) == (False, False, [])
    assert not (tmp_path / "none").exists()


def test_down_where_nothing_runs_says_so(tmp_path: Path) -> None:
    shown = run("down", tmp_path / "none")
    assert (shown.exit_code, shown.output) == (0, "Nothing was running.\n")


@pytest.mark.parametrize("flags", [(), ("--detach",)])
def test_a_taken_port_stops_up_with_one_sentence_and_leaves_nothing_running(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        shown = run("up", tmp_path, "--port", str(port), *flags)
    assert shown.exit_code == 1
    assert shown.output == (
        f"Error: Port {port} (http) is taken by another program; free it, or choose another with --port.\n"
    )
    assert not Home(tmp_path).is_locked()


def test_env_needs_a_start_before(tmp_path: Path) -> None:
    shown = run("env", tmp_path)
    assert shown.exit_code == 1
    assert "was never started" in shown.output


def test_env_prints_lines_for_the_shell(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.write_state({"addresses": {"http": "http://127.0.0.1:1"}})
    home.admin_key_file.write_text("key'1\n")
    lines = run("env", tmp_path).output.splitlines()
    assert "export OPENAI_BASE_URL=http://127.0.0.1:1/v1" in lines
    assert """export MODELRY_API_KEY='key'"'"'1'""" in lines


def test_env_keeps_other_clients_from_asking_a_proxy_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    home.write_state({"addresses": {"http": "http://127.0.0.1:1"}})
    home.admin_key_file.write_text("key\n")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "company.example")
    assert "export no_proxy=company.example,localhost,127.0.0.1,::1" in run("env", tmp_path).output.splitlines()


def test_doctor_finds_open_secrets_and_taken_ports(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.admin_key_file.write_text("key")
    home.admin_key_file.chmod(0o644)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        addresses = {"http": "http://127.0.0.1:1"}
        home.write_state({"ports": {**dict.fromkeys(PORTS, 1), "http": port}, "addresses": addresses})
        shown = run("doctor", tmp_path, "--json")
    assert shown.exit_code == 1
    bad = [finding["words"] for finding in json.loads(shown.output) if finding["verdict"] == "bad"]
    assert any("admin.key can be read by others" in words for words in bad)
    assert f"Port {port} (http) is taken by another program" in bad


def test_a_broken_settings_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "modelry.toml").write_text("a = [")
    for command in ("up", "config"):
        shown = run(command, tmp_path)
        assert shown.exit_code == 1
        assert "modelry.toml cannot be read" in shown.output
