"""Where an installation answers and with which key: from arguments, the environment, or a home on this machine."""

import json
import os
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from modelry.direct import is_loopback, open_url

DEFAULT_HOME = Path("~/.modelry")
URL, KEY, PROJECT, HOME = "MODELRY_URL", "MODELRY_API_KEY", "MODELRY_PROJECT", "MODELRY_HOME"
CA_FILE = "MODELRY_CA_FILE"
_INFO_SECONDS = 10.0


class NotReachable(ConnectionError):
    """No installation answers; the message says where it was looked for and what to do."""


@dataclass(frozen=True)
class Connection:
    """An installation: its HTTP address, its gRPC door (`host:port`), the key, and the project of an admin key.

    `direct`: it runs on this machine, so that no proxy is taken to it. Where the HTTP address is `https://…`, both
    doors speak TLS; `authorities` (PEM) are who may vouch for them, empty stands for those that everybody trusts.
    """

    http_address: str
    grpc_address: str
    key: str
    project: str = ""
    direct: bool = False
    authorities: str = ""

    @property
    def encrypted(self) -> bool:
        """Whether the doors speak TLS."""
        return self.http_address.startswith("https://")

    @property
    def ssl_context(self) -> ssl.SSLContext | None:
        """How to trust the HTTP door; None where it speaks no TLS."""
        return _trust(self.http_address, self.authorities)


def find_connection(
    url: str = "", key: str = "", project: str = "", home: str | Path = "", ca_file: str = ""
) -> Connection:
    """Return the installation to talk to.

    `url` (or MODELRY_URL) names one elsewhere and needs a key (or MODELRY_API_KEY); otherwise it is the one of `home`
    (or MODELRY_HOME, or ~/.modelry), with its admin key unless another is given. `ca_file` (or MODELRY_CA_FILE) has the
    authorities of a certificate that not everybody trusts. Raises: NotReachable.
    """
    authorities = _read_authorities(ca_file or os.environ.get(CA_FILE, ""))
    key = key or os.environ.get(KEY, "")
    project = project or os.environ.get(PROJECT, "")
    url = url or ("" if home else os.environ.get(URL, ""))
    if url:
        if not key:
            raise NotReachable(f"No API key for {url}: set {KEY}.")
        url = url.rstrip("/")
        return Connection(url, _door_of(url, key, authorities), key, project, is_loopback(url), authorities)
    folder = Path(home or os.environ.get(HOME, "") or DEFAULT_HOME)
    try:
        folder = folder.expanduser()
        addresses = json.loads((folder / "state.json").read_text("utf-8"))["addresses"]
        key = key or (folder / "admin.key").read_text("utf-8").strip()
        return Connection(addresses["http"], addresses["grpc"], key, project, direct=True, authorities=authorities)
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # RuntimeError: a user without a name and HOME
        raise NotReachable(
            f"No installation at {folder}. Start one with `modelry up --home {folder}`, "
            f"or name one elsewhere with {URL} and {KEY}."
        ) from error


def _read_authorities(ca_file: str) -> str:
    if not ca_file:
        return ""
    try:
        authorities = Path(ca_file).expanduser().read_text("utf-8")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=authorities)
    except (OSError, ValueError) as error:
        raise NotReachable(f"{ca_file} ({CA_FILE}) is no file with certificates in PEM: {error}.") from error
    return authorities


def _trust(url: str, authorities: str) -> ssl.SSLContext | None:
    return ssl.create_default_context(cadata=authorities or None) if url.startswith("https://") else None


def _door_of(url: str, key: str, authorities: str) -> str:
    """Return the gRPC address of an installation, as it says itself."""
    request = urllib.request.Request(  # noqa: S310 - the user's own address
        f"{url}/api/v1/serverInfo", headers={"Authorization": f"Bearer {key}"}
    )
    try:
        context = _trust(url, authorities)
        with open_url(request, _INFO_SECONDS, direct=is_loopback(url), context=context) as answer:
            return str(json.load(answer)["grpc_address"])
    except urllib.error.HTTPError as error:
        raise NotReachable(f"{url} refuses the key ({error.code}).") from error
    except (OSError, ValueError, KeyError) as error:
        raise NotReachable(f"Nothing answers at {url}: {error}") from error
