"""Where an installation answers and with which key: from arguments, the environment, or a home on this machine."""

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from modelry.direct import is_loopback, open_url

DEFAULT_HOME = Path("~/.modelry")
URL, KEY, PROJECT, HOME = "MODELRY_URL", "MODELRY_API_KEY", "MODELRY_PROJECT", "MODELRY_HOME"
_INFO_SECONDS = 10.0


class NotReachable(ConnectionError):
    """No installation answers; the message says where it was looked for and what to do."""


@dataclass(frozen=True)
class Connection:
    """An installation: its HTTP address, its gRPC door (`host:port`), the key, and the project of an admin key.

    `direct`: it runs on this machine, so that no proxy is taken to it.
    """

    http_address: str
    grpc_address: str
    key: str
    project: str = ""
    direct: bool = False


def find_connection(url: str = "", key: str = "", project: str = "", home: str | Path = "") -> Connection:
    """Return the installation to talk to.

    `url` (or MODELRY_URL) names one elsewhere and needs a key (or MODELRY_API_KEY); otherwise it is the one of `home`
    (or MODELRY_HOME, or ~/.modelry), with its admin key unless another is given. Raises: NotReachable.
    """
    key = key or os.environ.get(KEY, "")
    project = project or os.environ.get(PROJECT, "")
    url = url or ("" if home else os.environ.get(URL, ""))
    if url:
        if not key:
            raise NotReachable(f"No API key for {url}: set {KEY}.")
        return Connection(url.rstrip("/"), _door_of(url.rstrip("/"), key), key, project, is_loopback(url))
    folder = Path(home or os.environ.get(HOME, "") or DEFAULT_HOME).expanduser()
    try:
        addresses = json.loads((folder / "state.json").read_text("utf-8"))["addresses"]
        key = key or (folder / "admin.key").read_text("utf-8").strip()
        return Connection(addresses["http"], addresses["grpc"], key, project, direct=True)
    except (OSError, ValueError, KeyError) as error:
        raise NotReachable(
            f"No installation at {folder}. Start one with `modelry up --home {folder}`, "
            f"or name one elsewhere with {URL} and {KEY}."
        ) from error


def _door_of(url: str, key: str) -> str:
    """Return the gRPC address of an installation, as it says itself."""
    request = urllib.request.Request(  # noqa: S310 - the user's own address
        f"{url}/api/v1/serverInfo", headers={"Authorization": f"Bearer {key}"}
    )
    try:
        with open_url(request, _INFO_SECONDS, direct=is_loopback(url)) as answer:
            return str(json.load(answer)["grpc_address"])
    except urllib.error.HTTPError as error:
        raise NotReachable(f"{url} refuses the key ({error.code}).") from error
    except (OSError, ValueError, KeyError) as error:
        raise NotReachable(f"Nothing answers at {url}: {error}") from error
