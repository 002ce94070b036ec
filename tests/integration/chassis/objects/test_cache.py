"""The node's cache and folder transfers on the real embedded S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.testing import RealObjects
from services.chassis.errors import Invalid
from services.chassis.objects import (
    Manifest,
    NodeCache,
    ObjectStore,
    StoreAccess,
    missing_files,
    transfer,
    upload_folder,
)

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights").write_bytes(os.urandom(1 << 20))
    return folder


def test_a_folder_comes_back_to_the_byte(store: ObjectStore, bucket: str, folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    manifest = upload_folder(store, bucket, "m/1", folder, lambda done, total: told.append((done, total)))
    assert told[-1] == (manifest.size_bytes, manifest.size_bytes)
    assert missing_files(store, bucket, "m/1", manifest) == ()
    fetched = NodeCache(tmp_path / "cache").fetch(store, bucket, "m/1", manifest)
    assert fetched.name == manifest.digest
    assert Manifest.of_folder(fetched) == manifest


def test_what_is_here_is_not_fetched_again(store: ObjectStore, bucket: str, folder: Path, tmp_path: Path) -> None:
    manifest = upload_folder(store, bucket, "m", folder)
    cache = NodeCache(tmp_path / "cache")
    cache.fetch(store, bucket, "m", manifest)
    store.delete_prefix(bucket, "m")
    assert cache.fetch(store, bucket, "m", manifest) == cache.path(manifest)
    assert missing_files(store, bucket, "m", manifest) == ("config.json", "sub/weights")


def test_other_content_is_refused_and_leaves_no_folder(
    store: ObjectStore, bucket: str, folder: Path, tmp_path: Path
) -> None:
    manifest = upload_folder(store, bucket, "m", folder)
    store.put_bytes(bucket, "m/sub/weights", bytes(1 << 20))
    cache = NodeCache(tmp_path / "cache")
    with pytest.raises(Invalid) as refusal:
        cache.fetch(store, bucket, "m", manifest)
    assert refusal.value.reason == "DIGEST_MISMATCH"
    assert not cache.path(manifest).exists()
    upload_folder(store, bucket, "m", folder)
    assert Manifest.of_folder(cache.fetch(store, bucket, "m", manifest)) == manifest


def test_a_damaged_folder_is_made_whole(store: ObjectStore, bucket: str, folder: Path, tmp_path: Path) -> None:
    manifest = upload_folder(store, bucket, "m", folder)
    cache = NodeCache(tmp_path / "cache")
    (cache.fetch(store, bucket, "m", manifest) / "config.json").unlink()
    assert Manifest.of_folder(cache.fetch(store, bucket, "m", manifest)) == manifest


def test_many_who_want_the_same_download_it_once(
    access: StoreAccess, store: ObjectStore, bucket: str, folder: Path, tmp_path: Path
) -> None:
    manifest = upload_folder(store, bucket, "m", folder)
    downloads: list[int] = []

    def fetch(number: int) -> Path:
        cache = NodeCache(tmp_path / "cache")
        return cache.fetch(ObjectStore(access), bucket, "m", manifest, lambda done, total: downloads.append(number))

    with ThreadPoolExecutor(6) as pool:
        paths = set(pool.map(fetch, range(6)))
    assert len(paths) == 1
    assert len(set(downloads)) == 1


FETCH = """
    import json, sys
    from pathlib import Path
    from services.chassis.objects import Manifest, NodeCache, ObjectStore, StoreAccess
    access, bucket, manifest, folder = json.load(sys.stdin)
    store = ObjectStore(StoreAccess.from_json(access))
    print(NodeCache(Path(folder)).fetch(store, bucket, "m", Manifest.from_json(manifest),
          lambda done, total: print("part", flush=True)), flush=True)
"""


def test_a_fetch_that_was_killed_goes_on(
    access: StoreAccess, store: ObjectStore, bucket: str, folder: Path, tmp_path: Path
) -> None:
    import json

    for number in range(20):
        (folder / f"{number:02}").write_bytes(os.urandom(1 << 20))
    manifest = upload_folder(store, bucket, "m", folder)
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(FETCH)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(
            json.dumps([access.to_json(), bucket, manifest.to_json(), str(tmp_path / "cache")]).encode()
        )
        process.stdin.close()
        assert process.stdout.readline() == b"part\n"
        process.kill()
    cache = NodeCache(tmp_path / "cache")
    assert not cache.path(manifest).exists()
    assert Manifest.of_folder(cache.fetch(store, bucket, "m", manifest)) == manifest


def test_the_least_recently_fetched_is_dropped_beyond_the_limit(
    store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    manifests = []
    for number in range(3):
        source = tmp_path / f"s{number}"
        source.mkdir()
        (source / "f").write_bytes(bytes([number]) * 1000)
        manifests.append(upload_folder(store, bucket, f"m{number}", source))
    cache = NodeCache(tmp_path / "cache", limit_bytes=2500)
    paths = []
    for number, manifest in enumerate(manifests[:2]):
        paths.append(cache.fetch(store, bucket, f"m{number}", manifest))
        os.utime(paths[-1], (number, number))
    cache.fetch(store, bucket, "m0", manifests[0])
    cache.fetch(store, bucket, "m2", manifests[2])
    assert [cache.path(manifest).exists() for manifest in manifests] == [True, False, True]


def test_a_folder_moves_between_stores(
    store: ObjectStore, bucket: str, folder: Path, tmp_path: Path, s3_server: RealObjects
) -> None:
    manifest = upload_folder(store, bucket, "m", folder)
    transfer(store, bucket, "m", manifest, store, (bucket, "same"))
    assert missing_files(store, bucket, "same", manifest) == ()
    with RealObjects(tmp_path / "other") as server:
        other = ObjectStore(StoreAccess(server.url, server.access_key, server.secret_key))
        transfer(store, bucket, "m", manifest, other, (server.bucket, "x/y"))
        assert Manifest.of_folder(NodeCache(tmp_path / "c").fetch(other, server.bucket, "x/y", manifest)) == manifest
