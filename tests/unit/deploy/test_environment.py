"""What each kind of program is given of the environment that `up` was started in."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.local.home import PORTS, STAGES, CannotStart, Home, refuse_temporary_folder
from deploy.local.stack import Stack

pytestmark = pytest.mark.unit

# Each is set on somebody's machine for another program, and stops or misleads one of ours.
LEFT_OVER = {
    "AWS_PROFILE": "no-such-profile",
    "AWS_CONFIG_FILE": "/somebody/.aws/config",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_CA_BUNDLE": "/does/not/exist.pem",
    "AWS_SESSION_TOKEN": "left-over",
    "RCLONE_CONFIG_PASS": "left-over",
    "RCLONE_ADDR": ":9",
    "REQUESTS_CA_BUNDLE": "/does/not/exist.pem",
    "SSL_CERT_FILE": "/does/not/exist.pem",
    "PYTHONPATH": "/somebody/s/project",
    "PYTHONHOME": "/somebody/s/python",
    "PGHOST": "other.example",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "other.example",
    "VLLM_PORT": "tcp://10.0.0.1:8000",
    "grpc_proxy": "http://127.0.0.1:9",
    "DATABASE_PASSWORD": "secret",
    "OPENAI_API_KEY": "secret",
}
WANTED = {
    "PATH": "/usr/bin:/bin",
    "LD_LIBRARY_PATH": "/usr/local/cuda/lib64",
    "CUDA_HOME": "/usr/local/cuda",
    "CUDA_VISIBLE_DEVICES": "1,2",
    "NVIDIA_VISIBLE_DEVICES": "all",
    "NCCL_SOCKET_IFNAME": "eth0",
    "https_proxy": "http://proxy.example:3128",
    "HTTP_PROXY": "http://proxy.example:3128",
    "HF_ENDPOINT": "https://hub-mirror.example",
    "OPENBLAS_CORETYPE": "Haswell",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OMP_WAIT_POLICY": "passive",
    "ATEN_CPU_CAPABILITY": "avx2",
    "LANG": "zh_CN.UTF-8",
}
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of `up`: all of the above and nothing else."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in {**LEFT_OVER, **WANTED, "HF_TOKEN": "hub", "MODELRY_LEASE_SECONDS": "7"}.items():
        monkeypatch.setenv(name, value)


def environments(home: Path) -> dict[str, Mapping[str, str]]:
    """The environment of every program of a stack."""
    ports = {name: 20_000 + number for number, name in enumerate(PORTS)}
    return {program.name: program.environment for program in Stack(Home(home), ports).programs()}


@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize("name", ["nats", "objects", *STAGES, "gateway"])
def test_a_program_gets_what_it_needs_and_nothing_that_was_left_over(tmp_path: Path, name: str) -> None:
    given = environments(tmp_path)[name]
    assert {key: given.get(key) for key in WANTED} == WANTED
    assert {key: value for key, value in LEFT_OVER.items() if given.get(key) == value} == {}
    assert set(given["no_proxy"].split(",")) >= LOOPBACK and given["NO_PROXY"] == given["no_proxy"]


@pytest.mark.usefixtures("surroundings")
def test_settings_and_the_hub_s_token_reach_services_and_not_the_servers(tmp_path: Path) -> None:
    given = environments(tmp_path)
    for name in ("HF_TOKEN", "MODELRY_LEASE_SECONDS"):
        assert {program for program, one in given.items() if name in one} == {*STAGES, "gateway"}


@pytest.mark.usefixtures("surroundings")
def test_servers_elsewhere_are_reached_without_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "company.example")
    (tmp_path / "modelry.toml").write_text('nats_url = "nats://bus:4222"\nobjects_endpoint = "http://s3.lan:9000"\n')
    given = environments(tmp_path)["training"]["no_proxy"]
    assert set(given.split(",")) == {"company.example", "bus", "s3.lan", *LOOPBACK}


@pytest.mark.parametrize("folder", ["/does/not/exist", "/proc"])
def test_a_temporary_folder_that_cannot_be_written_to_is_refused_by_name(folder: str) -> None:
    with pytest.raises(CannotStart, match=f"TMPDIR={folder} "):
        refuse_temporary_folder({"TMPDIR": folder})


def test_a_temporary_folder_is_accepted_where_it_can_be_used(tmp_path: Path) -> None:
    refuse_temporary_folder({"TMPDIR": str(tmp_path)})
    refuse_temporary_folder({})


@pytest.mark.parametrize("name", ["line\nbreak", "\udcff", "bell\a"])
def test_a_home_that_no_configuration_can_hold_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(CannotStart, match="home"):
        Home(tmp_path / name).prepare()
    assert list(tmp_path.iterdir()) == []
