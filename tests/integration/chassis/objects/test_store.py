"""The store against the real embedded S3 server: every word, every refusal, broken connections."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.local.files import choose_port
from deploy.local.testing import RealObjects
from services.chassis.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from services.chassis.objects import AsyncObjectStore, ObjectStore, StoreAccess, check_rights

pytestmark = pytest.mark.integration

MIB = 1 << 20


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def test_bytes_and_json_there_and_back(store: ObjectStore, bucket: str) -> None:
    store.put_bytes(bucket, "a/b c/ü.txt", b"hello")
    assert store.get_bytes(bucket, "a/b c/ü.txt") == b"hello"
    store.put_json(bucket, "x.json", {"ä": [1, None]})
    assert store.get_json(bucket, "x.json") == {"ä": [1, None]}
    info = store.head(bucket, "a/b c/ü.txt")
    assert (info.size, info.etag) == (5, hashlib.md5(b"hello").hexdigest())
    assert store.get_bytes(bucket, "x.json", limit_bytes=100)
    with pytest.raises(Invalid, match="at most 3"):
        store.get_bytes(bucket, "x.json", limit_bytes=3)


def test_an_empty_object_is_an_object(store: ObjectStore, bucket: str) -> None:
    store.put_bytes(bucket, "empty", b"")
    assert store.get_bytes(bucket, "empty") == b""
    assert store.head(bucket, "empty").size == 0


def test_a_large_file_goes_up_in_parts_and_comes_back(store: ObjectStore, bucket: str, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(pattern(130 * MIB + 7))
    assert store.upload_file(path, bucket, "large").size == 130 * MIB + 7
    store.download_file(bucket, "large", tmp_path / "back")
    with (tmp_path / "back").open("rb") as back, path.open("rb") as there:
        assert hashlib.file_digest(back, "sha256").digest() == hashlib.file_digest(there, "sha256").digest()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "large"]


def test_listing_has_pages_and_folders(store: ObjectStore, bucket: str) -> None:
    for name in ("d/1", "d/2", "d/e/3", "f"):
        store.put_bytes(bucket, name, b"x")
    top = store.list_page(bucket, delimiter="/")
    assert ([o.key for o in top.objects], top.prefixes, top.next_token) == (["f"], ("d/",), "")
    first = store.list_page(bucket, "d/", page_size=2)
    second = store.list_page(bucket, "d/", page_size=2, token=first.next_token)
    assert [o.key for o in (*first.objects, *second.objects)] == ["d/1", "d/2", "d/e/3"]
    assert second.next_token == ""
    assert [o.key for o in store.list(bucket)] == ["d/1", "d/2", "d/e/3", "f"]
    assert list(store.list(bucket, "nothing/")) == []
    assert bucket in store.buckets()


def test_more_than_a_page_is_listed_and_deleted(store: ObjectStore, bucket: str) -> None:
    server_side = [f"many/{n:04}" for n in range(1005)]
    for key in server_side:
        store.put_bytes(bucket, key, b"")
    assert [o.key for o in store.list(bucket, "many/")] == server_side
    assert store.delete_prefix(bucket, "many") == 1005
    assert list(store.list(bucket)) == []


def test_a_folder_is_copied_and_deleted_and_its_neighbour_is_not(store: ObjectStore, bucket: str) -> None:
    for name in ("jobs/1/a", "jobs/1/s/b", "jobs/10/a"):
        store.put_bytes(bucket, name, name.encode())
    assert store.copy_prefix(bucket, "jobs/1", bucket, "models/x") == 2
    assert store.delete_prefix(bucket, "jobs/1") == 2
    assert [o.key for o in store.list(bucket)] == ["jobs/10/a", "models/x/a", "models/x/s/b"]
    assert store.get_bytes(bucket, "models/x/s/b") == b"jobs/1/s/b"
    with pytest.raises(Invalid):
        store.delete_prefix(bucket, "/")


def test_deleting_what_is_not_there_is_fine(store: ObjectStore, bucket: str) -> None:
    store.delete(bucket, "nothing")
    assert store.delete_prefix(bucket, "nothing") == 0
    assert store.find(bucket, "nothing") is None


def test_what_is_missing_is_named(store: ObjectStore, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no object 'x' in bucket") as no_object:
        store.head(bucket, "x")
    assert no_object.value.reason == "OBJECT_NOT_FOUND"
    with pytest.raises(NotFound):
        store.open_stream(bucket, "x")
    with pytest.raises(NotFound):
        store.download_file(bucket, "x", tmp_path / "x")
    with pytest.raises(NotFound) as no_bucket:
        list(store.list("no-such-bucket"))
    assert no_bucket.value.reason == "BUCKET_NOT_FOUND"
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with pytest.raises(NotFound):
        store.upload_file(path, "no-such-bucket", "x")


def test_wrong_keys_and_wrong_places_are_told_apart(access: StoreAccess, bucket: str) -> None:
    with pytest.raises(Denied) as wrong_secret:
        ObjectStore(StoreAccess(access.endpoint, access.access_key, "wrong")).list_page(bucket)
    assert wrong_secret.value.reason == "WRONG_SECRET_KEY"
    with pytest.raises(Denied) as wrong_key:
        ObjectStore(StoreAccess(access.endpoint, "wrong", access.secret_key)).list_page(bucket)
    assert wrong_key.value.reason == "UNKNOWN_ACCESS_KEY"
    nobody = f"http://127.0.0.1:{choose_port()}"
    with pytest.raises(Unavailable, match=nobody) as unreachable:
        ObjectStore(StoreAccess(nobody, "a", "b"), tries=1).list_page(bucket)
    assert unreachable.value.reason == "STORE_UNREACHABLE"
    with pytest.raises(Invalid, match="no endpoint"):
        ObjectStore(StoreAccess("not a url", "a", "b")).list_page(bucket)
    with pytest.raises(Invalid, match="no valid bucket"):
        ObjectStore(access).list_page("Not/A/Bucket")


def test_rights_are_found_by_doing(access: StoreAccess, store: ObjectStore, bucket: str) -> None:
    assert check_rights(access, bucket, "some/where") == {"list": "", "put": "", "get": "", "delete": ""}
    assert list(store.list(bucket)) == []
    with pytest.raises(NotFound):
        check_rights(access, "no-such-bucket")
    with pytest.raises(Denied):
        check_rights(StoreAccess(access.endpoint, access.access_key, "wrong"), bucket)
    with pytest.raises(Unavailable):
        check_rights(StoreAccess(f"http://127.0.0.1:{choose_port()}", "a", "b"), bucket)


def test_a_stream_is_a_file_and_starts_anywhere(store: ObjectStore, bucket: str) -> None:
    data = pattern(3 * MIB)
    store.put_bytes(bucket, "s", data)
    with store.open_stream(bucket, "s") as stream:
        assert (stream.size, stream.etag) == (len(data), hashlib.md5(data).hexdigest())
        assert stream.read(10) + stream.read() == data
        assert stream.read(10) == b""
    with store.open_stream(bucket, "s", offset=MIB) as stream:
        assert stream.size == len(data)
        assert stream.read() == data[MIB:]


class CuttingProxy:
    """Passes TCP on and cuts the first connections after so many bytes of the answer."""

    def __init__(self, target: int, cuts: list[int]) -> None:
        self._target, self._cuts = target, cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            threading.Thread(target=self._upwards, args=(client, server), daemon=True).start()
            left = self._cuts.pop(0) if self._cuts else 1 << 60
            while left > 0 and (data := server.recv(min(65536, left))):
                try:
                    client.sendall(data)
                except OSError:
                    return
                left -= len(data)
            client.shutdown(socket.SHUT_RDWR)

    def _upwards(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                server.sendall(data)
        except OSError:
            pass

    def close(self) -> None:
        self._listener.close()


@contextmanager
def cutting(server: RealObjects, cuts: list[int]) -> Iterator[StoreAccess]:
    proxy = CuttingProxy(server.server.port, cuts)
    try:
        yield StoreAccess(f"http://127.0.0.1:{proxy.port}", server.access_key, server.secret_key)
    finally:
        proxy.close()


def test_a_stream_goes_on_after_broken_connections(store: ObjectStore, bucket: str, s3_server: RealObjects) -> None:
    data = pattern(8 * MIB)
    store.put_bytes(bucket, "s", data)
    with cutting(s3_server, [MIB, 100, 3 * MIB]) as access:
        with ObjectStore(access).open_stream(bucket, "s") as stream:
            assert hashlib.sha256(stream.read()).digest() == hashlib.sha256(data).digest()


def test_a_stream_does_not_mix_two_objects(store: ObjectStore, bucket: str, s3_server: RealObjects) -> None:
    store.put_bytes(bucket, "s", pattern(16 * MIB))
    with cutting(s3_server, [8 * MIB]) as access:
        with ObjectStore(access).open_stream(bucket, "s") as stream:
            assert stream.read(MIB)
            store.put_bytes(bucket, "s", bytes(16 * MIB))
            with pytest.raises(Conflict, match="replaced while it was read"):
                stream.read()


def test_an_upload_starts_again_after_a_broken_connection(
    store: ObjectStore, bucket: str, s3_server: RealObjects, tmp_path: Path
) -> None:
    path = tmp_path / "f"
    path.write_bytes(pattern(MIB))
    with cutting(s3_server, [0, 0, 0, 0]) as access:
        info = ObjectStore(access, tries=1).upload_file(path, bucket, "f")
    assert info.size == MIB
    assert store.get_bytes(bucket, "f") == path.read_bytes()


def test_an_older_object_of_the_same_size_is_not_taken_for_the_upload(
    store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"new")
    store.put_bytes(bucket, "f", b"old")
    assert store._stored_after_doubt(path, bucket, "f") is None
    store.put_bytes(bucket, "f", b"new")
    assert store._stored_after_doubt(path, bucket, "f") is not None


async def test_the_asynchronous_store_has_the_same_words(access: StoreAccess, bucket: str) -> None:
    store = AsyncObjectStore(access)
    await store.put_json(bucket, "x", 1)
    assert await store.get_json(bucket, "x") == 1
    assert [info.key for info in (await store.list_page(bucket)).objects] == ["x"]
    await store.delete(bucket, "x")
    assert await store.find(bucket, "x") is None


def test_a_server_that_restarts_during_an_upload(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(pattern(150 * MIB))
    with RealObjects(tmp_path / "s3") as server:
        store = ObjectStore(StoreAccess(server.url, server.access_key, server.secret_key), tries=1)
        store.ensure_bucket("modelry")
        timer = threading.Timer(0.15, lambda: (server.kill(), server.start()))
        timer.start()
        assert store.upload_file(path, "modelry", "f").size == 150 * MIB
        timer.join()
        with store.open_stream("modelry", "f") as stream, path.open("rb") as there:
            assert hashlib.file_digest(there, "sha256").digest() == hashlib.sha256(stream.read()).digest()
