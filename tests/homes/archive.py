"""Packs a home that works no more, unpacks it elsewhere, and reads all lists of one that runs."""

from __future__ import annotations

import io
import json
import tarfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

# Where the archived home was made, and where `unpack` puts it: every file that names it is text.
MADE_AT = "/tmp/modelry-home/home"
HOME, EXPECTED = "home", "expected.json"
# What a start makes again.
LEFT_OUT = frozenset({"cache", "logs", "work/imports"})
BROKEN_UPLOAD = ".rclone_temp_"

# Lists of the API. `{}` stands for the id of each item of the list that is named before it.
LISTS = (
    "projects",
    "apiKeys",
    "credentials",
    "auditEntries",
    "prices",
    "usageRecords",
    "files",
    "datasets",
    "datasets/{}/versions",
    "models",
    "models/{}/versions",
    "models/{}/aliases",
    "jobs",
    "jobs/{}/checkpoints",
    "evaluations",
    "evaluations/{}/samples",
    "stopwordLists",
    "deployments",
    "events",
)
PAGE_SIZE = 7  # small, so that there are pages to turn


def read_lists(http: str, key: str) -> dict[str, list[dict[str, Any]]]:
    """The items of every list that an installation answers with, by path."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in LISTS:
        parent, _, child = path.partition("/{}/")
        paths = [f"{parent}/{item['id']}/{child}" for item in found[parent]] if child else [path]
        found |= {one: list(read_list(http, key, one)) for one in paths}
    return found


def read_list(http: str, key: str, path: str) -> Iterator[dict[str, Any]]:
    """The items of one list, page by page."""
    token = ""
    while True:
        query = urllib.parse.urlencode({"page_size": PAGE_SIZE, "page_token": token})
        address = f"{http}/api/v1/{path}?{query}"
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            page = json.load(answer)
        token = page.pop("next_page_token", "")
        for items in page.values():
            yield from items
        if not token:
            return


def pack(home: Path, expected: dict[str, Any], target: Path) -> None:
    """Write the archive of a home in which nothing runs: names in order, no owners, no times of the packing."""
    with tarfile.open(target, "w:xz", preset=9, format=tarfile.PAX_FORMAT) as archive:
        text = (json.dumps(expected, indent=1) + "\n").encode()
        entry = tarfile.TarInfo(EXPECTED)
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
        for path in sorted([home, *home.rglob("*")]):
            inside = path.relative_to(home)
            if any(str(part) in LEFT_OUT for part in (inside, *inside.parents)) or BROKEN_UPLOAD in path.name:
                continue
            entry = archive.gettarinfo(path, str(Path(HOME) / inside))
            entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime = 0, 0, "", "", int(entry.mtime)
            with path.open("rb") if entry.isreg() else nullcontext() as content:
                archive.addfile(entry, content)


def unpack(source: Path, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The home below `folder`, as if it had been made there, and what must be found in it.

    Two things bind a home to its place, and both are put right as README.md says: the launch records and specs name its
    path, and `state.json` its ports, which another program may have taken.
    """
    with tarfile.open(source, "r:xz") as archive:
        archive.extractall(folder, filter="data")
    home = folder / HOME
    for path in home.glob("work/**/*.json"):
        path.write_text(path.read_text("utf-8").replace(MADE_AT, str(home)), "utf-8")
    state = json.loads((home / "state.json").read_text("utf-8"))
    state["ports"] = {}
    (home / "state.json").write_text(json.dumps(state), "utf-8")
    return home, json.loads((folder / EXPECTED).read_text("utf-8"))
