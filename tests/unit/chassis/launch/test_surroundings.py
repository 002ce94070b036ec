"""Which variables pass to programs, and what is made of proxies and temporary folders."""

import tempfile
from pathlib import Path

import pytest

from services.chassis.launch import inherited

pytestmark = pytest.mark.unit

LOOPBACK = ["localhost", "127.0.0.1", "::1"]


def test_a_name_passes_only_when_the_list_has_it() -> None:
    given = inherited({"PATH": "/bin", "LC_ALL": "C", "LCX": "1", "MODELRY_HOME": "/h", "HF_TOKEN": "t", "GPU": "0"})
    assert {"PATH", "LC_ALL"} <= given.keys() and not {"LCX", "MODELRY_HOME", "HF_TOKEN", "GPU"} & given.keys()


def test_services_see_settings_and_the_hub_s_token_too() -> None:
    given = inherited({"MODELRY_LEASE_SECONDS": "7", "HF_TOKEN": "t", "AWS_PROFILE": "old"}, services=True)
    assert given["MODELRY_LEASE_SECONDS"] == "7" and given["HF_TOKEN"] == "t" and "AWS_PROFILE" not in given


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, LOOPBACK),
        ({"no_proxy": "a.example, ::1"}, ["a.example", "::1", "localhost", "127.0.0.1"]),
        ({"NO_PROXY": "b.example"}, ["b.example", *LOOPBACK]),
        ({"no_proxy": "*"}, ["*"]),
    ],
)
def test_loopback_is_among_what_no_proxy_names(before: dict[str, str], after: list[str]) -> None:
    given = inherited(before)
    assert given["no_proxy"] == given["NO_PROXY"] == ",".join(after)


def test_python_looks_into_no_folder_that_it_happens_to_be_started_in() -> None:
    assert inherited({"PYTHONSAFEPATH": ""})["PYTHONSAFEPATH"] == "1"


def test_a_certificate_file_passes_where_it_exists(tmp_path: Path) -> None:
    there = tmp_path / "ca.pem"
    there.touch()
    assert inherited({"SSL_CERT_FILE": str(there)})["SSL_CERT_FILE"] == str(there)
    assert "SSL_CERT_FILE" not in inherited({"SSL_CERT_FILE": str(tmp_path / "gone.pem")})


def test_a_temporary_folder_too_long_for_sockets_is_not_passed_on(tmp_path: Path) -> None:
    short = Path(tempfile.gettempdir())
    assert inherited({"TMPDIR": str(short)})["TMPDIR"] == str(short)
    assert "TMPDIR" not in inherited({"TMPDIR": str(short / ("长" * 30))})
