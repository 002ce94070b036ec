"""The S3 client on machines as people have them: proxies and the remains of other S3 tools change nothing."""

from pathlib import Path

import pytest

from deploy.local.testing import RealObjects
from services.chassis.objects import ObjectStore, StoreAccess

pytestmark = pytest.mark.integration

CONFIG = """[default]
region = eu-central-1
s3 =
  addressing_style = virtual
  use_accelerate_endpoint = true
endpoint_url = http://127.0.0.1:9
max_attempts = many
[profile old]
ca_bundle = /does/not/exist.pem
"""
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a configuration of the AWS tools."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(CONFIG)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"AWS_PROFILE": "no-such-profile"},
        {"AWS_DEFAULT_PROFILE": "no-such-profile"},
        {"AWS_PROFILE": "old"},
        {"AWS_CONFIG_FILE": "config"},
        {"AWS_ENDPOINT_URL": NOBODY},
        {"AWS_ENDPOINT_URL_S3": NOBODY},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"AWS_SESSION_TOKEN": "left-over"},
        {"AWS_CA_BUNDLE": "/does/not/exist.pem"},
        {"AWS_MAX_ATTEMPTS": "many"},
        {"AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "nonsense"},
        {"AWS_DEFAULTS_MODE": "nonsense"},
        {"http_proxy": NOBODY, "HTTP_PROXY": NOBODY, "all_proxy": NOBODY},
    ],
    ids=lambda variables: "+".join(variables) or "only the file",
)
def test_the_store_is_reached_with_our_keys_at_our_endpoint(
    s3_server: RealObjects, home: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(home / ".aws" / value) if name == "AWS_CONFIG_FILE" else value)
    access = StoreAccess(s3_server.url, s3_server.access_key, s3_server.secret_key)
    store = ObjectStore(access, tries=1)
    store.put_bytes(s3_server.bucket, "surroundings", b"here")
    assert store.get_bytes(s3_server.bucket, "surroundings") == b"here"


def test_a_store_elsewhere_is_reached_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch, s3_server: RealObjects
) -> None:
    """The real server plays the proxy: it is asked for the whole URL of a host that nobody knows."""
    monkeypatch.setenv("http_proxy", s3_server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    access = StoreAccess("http://store.invalid:9000", s3_server.access_key, s3_server.secret_key)
    store = ObjectStore(access, tries=1)
    store.put_bytes(s3_server.bucket, "through", b"proxy")
    assert store.get_bytes(s3_server.bucket, "through") == b"proxy"
