"""The node's cache of models and data sets, addressed by content: fetched once, verified, shared by processes."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from services.chassis.errors import Unavailable
from services.chassis.objects.manifest import Manifest, download_verified
from services.chassis.objects.store import ObjectStore, folder_prefix
from services.chassis.paths import inside

Progress = Callable[[int, int], None]


class NodeCache:
    """A folder of folders named by manifest digest. A folder that is there is whole: it came by rename."""

    def __init__(self, folder: Path, limit_bytes: int = 0) -> None:
        """Args: limit_bytes: beyond it the least recently fetched folders are dropped; 0 keeps all."""
        self._folder = Path(folder)
        self._limit = limit_bytes

    def path(self, manifest: Manifest) -> Path:
        """Return where the content is, or will be."""
        return self._folder / manifest.digest

    def fetch(
        self,
        store: ObjectStore,
        bucket: str,
        prefix: str,
        manifest: Manifest,
        on_progress: Progress | None = None,
    ) -> Path:
        """Return the folder with exactly these files, downloaded and verified unless it is here already. Blocking.

        Processes that want the same content at once download it once. Treat the folder as read-only.
        Raises: Invalid: the store holds other content (DIGEST_MISMATCH). Unavailable: store away or disk full.
        """
        with self._locked(manifest.digest):
            target = self.path(manifest)
            if not _is_whole(target, manifest):
                shutil.rmtree(target, ignore_errors=True)
                try:
                    self._download(store, bucket, folder_prefix(prefix), manifest, on_progress)
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT):
                        message = f"There is no room left for {manifest.size_bytes} bytes in {self._folder}."
                        raise Unavailable(message, reason="CACHE_FULL", retry_seconds=30) from error
                    raise
            os.utime(target)
        if self._limit:
            self._evict(keep=manifest.digest)
        return target

    def _download(
        self, store: ObjectStore, bucket: str, prefix: str, manifest: Manifest, on_progress: Progress | None
    ) -> None:
        # Files of an attempt that broke off are kept: each got its name only after it was verified.
        incoming = self._folder / ".incoming" / manifest.digest
        done = 0
        for file in manifest.files:
            path = inside(incoming, file.path)
            if not (path.is_file() and path.stat().st_size == file.size):
                path.parent.mkdir(parents=True, exist_ok=True)
                part = incoming / ".part"
                download_verified(store, bucket, prefix + file.path, file, part)
                part.replace(path)
            done += file.size
            if on_progress:
                on_progress(done, manifest.size_bytes)
        incoming.mkdir(parents=True, exist_ok=True)
        incoming.replace(self.path(manifest))

    @contextmanager
    def _locked(self, digest: str, wait: bool = True) -> Iterator[bool]:
        locks = self._folder / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(locks / digest, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                mine = True
            except BlockingIOError:
                mine = False
            yield mine
        finally:
            os.close(descriptor)

    def _evict(self, keep: str) -> None:
        """Drop the least recently fetched content beyond the limit, never what was just asked for or is locked."""
        folders = [path for path in self._folder.iterdir() if not path.name.startswith(".")]
        sizes = {path: sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for path in folders}
        excess = sum(sizes.values()) - self._limit
        for path in sorted(folders, key=lambda one: one.stat().st_mtime):
            if excess <= 0:
                return
            if path.name == keep:
                continue
            with self._locked(path.name, wait=False) as mine:
                if mine:
                    shutil.rmtree(path, ignore_errors=True)
                    excess -= sizes[path]


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    """Check cheaply that nobody deleted files: every file is there with its size."""
    try:
        return all((folder / file.path).stat().st_size == file.size for file in manifest.files) and folder.is_dir()
    except OSError:
        return False
