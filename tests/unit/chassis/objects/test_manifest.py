"""Manifests: identity of content, refusal of paths that lead outside."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from services.chassis.errors import Invalid
from services.chassis.objects import Manifest, ManifestFile, StoreAccess, folder_prefix

pytestmark = pytest.mark.unit


def _folder(path: Path) -> Path:
    (path / "sub").mkdir(parents=True)
    (path / "b.txt").write_bytes(b"bee")
    (path / "sub" / "a.bin").write_bytes(b"")
    return path


def test_a_folder_is_described_to_the_byte(tmp_path: Path) -> None:
    manifest = Manifest.of_folder(_folder(tmp_path / "x"))
    assert manifest.files == (
        ManifestFile("b.txt", 3, hashlib.sha256(b"bee").hexdigest()),
        ManifestFile("sub/a.bin", 0, hashlib.sha256(b"").hexdigest()),
    )
    assert manifest.size_bytes == 3


def test_the_digest_is_of_the_content_and_not_of_order_place_or_name_of_the_folder(tmp_path: Path) -> None:
    one, two = Manifest.of_folder(_folder(tmp_path / "x")), Manifest.of_folder(_folder(tmp_path / "y"))
    assert one.digest == two.digest == Manifest(tuple(reversed(one.files))).digest
    (tmp_path / "y" / "b.txt").write_bytes(b"be!")
    assert Manifest.of_folder(tmp_path / "y").digest != one.digest


def test_json_there_and_back(tmp_path: Path) -> None:
    manifest = Manifest.of_folder(_folder(tmp_path / "x"))
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize("content", [{}, {"files": [{"path": "a"}]}, {"files": 3}, {"files": [], "digest": "other"}])
def test_what_is_no_manifest_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(Invalid) as refusal:
        Manifest.from_json(content)
    assert refusal.value.reason == "INVALID_MANIFEST"


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\\b", "."])
def test_a_path_out_of_the_folder_is_refused(path: str) -> None:
    with pytest.raises(Invalid):
        ManifestFile(path, 0, "")


def test_a_path_stands_once() -> None:
    with pytest.raises(Invalid):
        Manifest((ManifestFile("a", 0, "x"), ManifestFile("a", 1, "y")))


@pytest.mark.parametrize(("prefix", "folder"), [("", ""), ("/", ""), ("a", "a/"), ("/a/b/", "a/b/")])
def test_a_prefix_is_a_folder(prefix: str, folder: str) -> None:
    assert folder_prefix(prefix) == folder


def test_access_shows_no_secret_in_text_and_all_in_json() -> None:
    access = StoreAccess("http://x", "key", "hush")
    assert "hush" not in repr(access)
    assert StoreAccess.from_json(access.to_json()) == access
