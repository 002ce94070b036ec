"""Ports, secrets, lock and logs of a home."""

import base64
import socket
import stat
from pathlib import Path

import pytest

from deploy.local.child import Backoff
from deploy.local.files import FIRST_PORT, LAST_PORT, choose_port, keep_secret, write_private
from deploy.local.home import PORTS, CannotStart, Home, choose_ports
from deploy.local.logs import rotate, tail
from deploy.local.nats_server import PERMISSIONS, USERS, NatsServer
from deploy.local.stack import Stack

pytestmark = pytest.mark.unit


def test_first_start_chooses_a_port_of_its_own_for_everything() -> None:
    ports = choose_ports({}, {})
    assert set(ports) == set(PORTS)
    assert len(set(ports.values())) == len(PORTS)


def test_ports_lie_below_those_lent_to_outgoing_connections() -> None:
    assert all(FIRST_PORT <= choose_port() < LAST_PORT for _ in range(20))


def test_ports_are_kept_and_a_wanted_one_replaces_a_kept_one() -> None:
    kept = choose_ports({}, {})
    wanted = choose_port(kept.values())
    assert choose_ports(kept, {"http": wanted, "grpc": None}) == {**kept, "http": wanted}


def test_a_taken_port_stops_the_start_with_its_name_and_the_way_out() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"Port {port} \(nats\) is taken .* --nats-port"):
            choose_ports({}, {"nats": port})
        with pytest.raises(CannotStart, match=rf"Port {port} \(training\) is taken .* state\.json"):
            choose_ports({"training": port}, {})


def test_two_doors_on_one_port_are_refused() -> None:
    port = choose_port()
    with pytest.raises(CannotStart, match=f"http and grpc have the same port {port}"):
        choose_ports({}, {"http": port, "grpc": port})


def test_a_home_is_served_by_one_supervisor(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert not home.is_locked()
    with home.lock():
        assert home.is_locked()
        with pytest.raises(CannotStart, match="is served already"), Home(tmp_path / "home").lock():
            pass
    assert not home.is_locked()


def test_secrets_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first = home.secret("token_secret")
    assert home.secret("token_secret") == first != home.secret("nats_password")
    assert len(base64.b64decode(home.secret("vault_key"))) == 32
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.secrets.iterdir()} == {0o600}


def test_a_secret_that_was_put_there_is_used(tmp_path: Path) -> None:
    write_private(tmp_path / "given", "mine\n")
    assert keep_secret(tmp_path / "given") == "mine"


def test_broken_settings_file_stops_the_start_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "modelry.toml").write_text("a = [")
    with pytest.raises(CannotStart, match=r"modelry\.toml cannot be read"):
        Home(tmp_path).toml()


def test_a_long_log_is_moved_on_and_emptied(tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    for content in ("first", "second", "third", "fourth"):
        log.write_text(content)
        assert rotate(log, max_bytes=2, kept=2)
        assert log.read_text() == ""
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "one.log": "",
        "one.log.1": "fourth",
        "one.log.2": "third",
    }
    assert not rotate(log, max_bytes=2)
    assert not rotate(tmp_path / "none.log")


def test_tail_gives_the_last_lines(tmp_path: Path) -> None:
    (tmp_path / "one.log").write_text("".join(f"line {number}\n" for number in range(5000)))
    assert tail(tmp_path / "one.log", 2) == "line 4998\nline 4999"
    assert tail(tmp_path / "none.log") == ""


def test_pauses_double_up_to_a_limit() -> None:
    backoff = Backoff(first_seconds=1, most_seconds=5)
    assert [backoff.pause(failures) for failures in (1, 2, 3, 4, 1000)] == [1, 2, 4, 5, 5]


def test_every_nats_user_but_services_is_limited() -> None:
    server = NatsServer(Path("store"), 1, 2, dict.fromkeys(USERS, "secret"), "secret")
    entries = {entry["user"]: entry for entry in server.config()["authorization"]["users"]}
    assert {name for name, entry in entries.items() if "permissions" not in entry} == {"services"}
    assert PERMISSIONS["observer"] == {
        "publish": {"deny": [">"]},
        "subscribe": {"allow": ["modelry.events.>"]},
    }
    assert "secret" not in repr(server)


def test_a_process_gets_its_own_door_everyone_s_address_and_no_secret(tmp_path: Path) -> None:
    home = Home(tmp_path)
    ports = {name: 1000 + number for number, name in enumerate(PORTS)}
    found = Stack(home, ports).environment("training")
    assert found["MODELRY_TRAINING_LISTEN"] == f"127.0.0.1:{ports['training']}"
    assert "MODELRY_ACCESS_LISTEN" not in found
    assert found["MODELRY_ACCESS_ADDRESS"] == f"127.0.0.1:{ports['access']}"
    secret = home.secret("nats_password")
    assert secret not in "".join(found.values())
    gateway = Stack(home, ports).environment("gateway")
    assert gateway["MODELRY_GATEWAY_NATS_USER"] == "gateway"
    assert home.secret("objects_secret_key") not in "".join(gateway.values())


def test_servers_elsewhere_replace_the_embedded_ones(tmp_path: Path) -> None:
    (tmp_path / "modelry.toml").write_text('nats_url = "nats://bus:4222"\nobjects_endpoint = "http://s3:9000"\n')
    stack = Stack(Home(tmp_path), dict.fromkeys(PORTS, 1))
    names = {program.name for program in stack.programs()}
    assert names & {"nats", "objects"} == set()
    assert stack.addresses()["nats"] == "nats://bus:4222"
    assert "MODELRY_NATS_URL" not in stack.environment("training")
