"""What must not be in the repository: paths of a machine, hosts of a package index, secrets."""

import os
import re
import subprocess
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]


def tracked_texts() -> dict[str, str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    names = [name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]
    contents = {name: (ROOT / name).read_bytes() for name in names}
    return {name: data.decode("utf-8", "replace") for name, data in contents.items() if b"\0" not in data}


def find(pattern: str) -> list[str]:
    expression = re.compile(pattern)
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in tracked_texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if expression.search(line)
    ]


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    home_folders = r"/(?:home|Users)/[a-z][\w.-]*/|/" + r"root/"
    workplace = rf"{re.escape(str(ROOT))}\b|{re.escape(str(ROOT.parent))}/(?:shared|main)\b|/tmp/" + "plan"
    assert find(rf"(?<![\w.$~-])(?:{home_folders}|{workplace})") == []


def test_no_file_names_a_package_index() -> None:
    assert [hit for host in index_hosts() for hit in find(re.escape(host))] == []


def index_hosts() -> set[str]:
    """Hosts that pip of this machine is told to use."""
    values = [value for name, value in os.environ.items() if name.startswith("PIP_")]
    for path in (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"):
        parser = ConfigParser(interpolation=None)
        if path.is_file():
            parser.read(path)
        values += [value for section in parser.sections() for value in dict(parser[section]).values()]
    urls = [word for value in values for word in value.split() if "://" in word]
    return {host for url in urls if (host := urlsplit(url).hostname)}


def test_no_file_holds_a_private_key() -> None:
    assert find("-----BEGIN [A-Z ]*" + "PRIVATE KEY-----") == []
