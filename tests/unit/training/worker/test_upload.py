"""Uploads happen behind the loop; a store that is away is waited for, and a failure reaches the loop."""

from pathlib import Path

import pytest

from services.chassis.errors import Denied, Unavailable
from services.chassis.objects import Manifest, ManifestFile
from services.training.worker import upload
from services.training.worker.upload import Uploader

pytestmark = pytest.mark.unit


class Store:
    """Fails as often as it is told to, then takes everything."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.keys: list[str] = []

    def upload_file(self, _path: Path, _bucket: str, key: str) -> None:
        """Takes a file."""
        if self.failures:
            raise self.failures.pop(0)
        self.keys.append(key)


def _folder(path: Path) -> Path:
    (path / "c" / "adapter").mkdir(parents=True)
    (path / "c" / "adapter" / "x").write_text("x")
    return path / "c"


def test_a_store_that_was_away_gets_the_checkpoint_and_the_folder_goes(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(upload.time, "sleep", lambda _: None)
    store, done = Store(Unavailable("away"), Unavailable("away")), []
    uploader = Uploader(store, "b", away_seconds=60)  # type: ignore[arg-type]
    folder = _folder(tmp_path)
    uploader.put(folder, "p", done.append)
    uploader.close()
    assert store.keys == ["p/adapter/x"]
    assert done[0].files[0].path == "adapter/x"
    assert not folder.exists()


def test_a_failure_is_raised_to_the_loop_and_nothing_is_reported(tmp_path: Path):
    uploader, done = Uploader(Store(Denied("no")), "b"), []  # type: ignore[arg-type]
    uploader.put(_folder(tmp_path), "p", done.append)
    with pytest.raises(Denied):
        uploader.close()
    assert not done


def test_the_manifest_of_the_adapter_is_relative_to_it():
    files = (ManifestFile("adapter/a", 1, "0" * 64), ManifestFile("state/b", 2, "1" * 64))
    inner = Manifest(files).below("adapter/")
    assert [file.path for file in inner.files] == ["a"]
