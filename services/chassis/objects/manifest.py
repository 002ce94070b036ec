"""Manifests: what a folder holds, to the byte. Digests live here and never in object metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

from services.chassis.errors import Invalid
from services.chassis.objects.store import ObjectStore, folder_prefix
from services.chassis.paths import check_inside

FORMAT = 1
_CHUNK = 1 << 20
_WORKERS = 4


@dataclass(frozen=True)
class ManifestFile:
    """One file: path relative to the folder with "/" between its parts, size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        """Refuse a path that leads out of the folder."""
        check_inside(self.path)


@dataclass(frozen=True)
class Manifest:
    """The files of a folder, ordered by path."""

    files: tuple[ManifestFile, ...]

    def __post_init__(self) -> None:
        """Order the files; a path stands once."""
        ordered = tuple(sorted(self.files, key=lambda file: file.path))
        if len({file.path for file in ordered}) != len(ordered):
            raise Invalid("A manifest names a path twice.", reason="INVALID_MANIFEST")
        object.__setattr__(self, "files", ordered)

    @cached_property
    def digest(self) -> str:
        """sha256 in hex over paths, sizes and digests: the identity of the content."""
        lines = json.dumps([[file.path, file.size, file.sha256] for file in self.files], ensure_ascii=False)
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size for file in self.files)

    def below(self, folder: str) -> Manifest:
        """Return the manifest of a folder inside, whose name ends with a slash; empty: all of it."""
        inside = [file for file in self.files if file.path.startswith(folder)]
        return Manifest(tuple(replace(file, path=file.path.removeprefix(folder)) for file in inside))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {"format": FORMAT, "digest": self.digest, "files": [asdict(file) for file in self.files]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Manifest:
        """Return the manifest that `to_json` wrote. Raises Invalid if it is none or was tampered with."""
        try:
            files = tuple(ManifestFile(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in content["files"])
        except (KeyError, TypeError, ValueError) as error:
            raise Invalid("This is no manifest.", reason="INVALID_MANIFEST") from error
        manifest = cls(files)
        if content.get("digest", manifest.digest) != manifest.digest:
            raise Invalid("The manifest's digest is not that of its files.", reason="INVALID_MANIFEST")
        return manifest

    @classmethod
    def of_folder(cls, folder: Path) -> Manifest:
        """Read every file of a folder and of its sub-folders, links followed."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        with ThreadPoolExecutor(_WORKERS) as pool:
            digests = list(pool.map(file_sha256, paths))
        files = zip(paths, digests, strict=True)
        return cls(tuple(ManifestFile(p.relative_to(folder).as_posix(), p.stat().st_size, d) for p, d in files))


ManifestJson = Annotated[
    Manifest,
    PlainSerializer(Manifest.to_json),
    PlainValidator(lambda content: Manifest.from_json(json.loads(content) if isinstance(content, str) else content)),
]
"""A manifest in a spec that pydantic writes and reads; as text it was written by version 0.1."""


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def upload_folder(
    store: ObjectStore,
    bucket: str,
    prefix: str,
    folder: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Upload a folder and return its manifest; `on_progress(done, total)` is told the bytes after each file."""
    manifest = Manifest.of_folder(folder)
    done = 0
    for file in manifest.files:
        store.upload_file(folder / file.path, bucket, folder_prefix(prefix) + file.path)
        done += file.size
        if on_progress:
            on_progress(done, manifest.size_bytes)
    return manifest


def missing_files(store: ObjectStore, bucket: str, prefix: str, manifest: Manifest) -> tuple[str, ...]:
    """Return the paths of a manifest that are not stored under the prefix with their size; nothing is read."""
    folder = folder_prefix(prefix)
    sizes = {info.key.removeprefix(folder): info.size for info in store.list(bucket, folder)}
    return tuple(file.path for file in manifest.files if sizes.get(file.path) != file.size)


def transfer(
    source: ObjectStore, bucket: str, prefix: str, manifest: Manifest, target: ObjectStore, to: tuple[str, str]
) -> None:
    """Copy the files of a manifest to `to` (bucket, prefix), inside the store when both are the same.

    Between two stores every file passes through a local temporary file and is verified on the way.
    """
    target_bucket, target_prefix = to
    if source.access == target.access:
        source.copy_prefix(bucket, prefix, target_bucket, target_prefix, [file.path for file in manifest.files])
        return
    with TemporaryDirectory(prefix="modelry-") as scratch:
        for file in manifest.files:
            path = Path(scratch) / "file"
            download_verified(source, bucket, folder_prefix(prefix) + file.path, file, path)
            target.upload_file(path, target_bucket, folder_prefix(target_prefix) + file.path)


def download_verified(store: ObjectStore, bucket: str, key: str, file: ManifestFile, path: Path) -> None:
    """Download one file of a manifest and check size and sha256 while it comes. Raises Invalid if it is another."""
    digest = hashlib.sha256()
    with store.open_stream(bucket, key) as stream, path.open("wb") as target:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            target.write(chunk)
        size = target.tell()
    if (size, digest.hexdigest()) != (file.size, file.sha256):
        path.unlink()
        message = f"{bucket}/{key} is not the file that was recorded: its size or sha256 differs."
        raise Invalid(message, reason="DIGEST_MISMATCH", metadata={"bucket": bucket, "key": key})
