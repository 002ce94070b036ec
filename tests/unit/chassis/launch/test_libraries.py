"""What is loaded before the programs that compute."""

from pathlib import Path

import pytest

from services.chassis.launch import find_libraries, preloaded

pytestmark = pytest.mark.unit

LIBRARIES = ["/usr/lib/x/libtcmalloc_minimal.so.4", "/opt/lib/libiomp5.so"]


def test_an_environment_without_libraries_stays_as_it_is() -> None:
    assert preloaded({"HOME": "/h"}, []) == {"HOME": "/h"}


def test_libraries_are_loaded_first_and_once() -> None:
    found = preloaded({"LD_PRELOAD": "/other/libiomp5.so:/x/own.so"}, LIBRARIES)
    assert found["LD_PRELOAD"] == "/usr/lib/x/libtcmalloc_minimal.so.4:/other/libiomp5.so:/x/own.so"


def test_libraries_that_are_not_installed_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    openmp = tmp_path / "lib" / "libiomp5.so"
    assert str(openmp) not in find_libraries.__wrapped__(str(tmp_path))
    openmp.touch()
    assert find_libraries.__wrapped__(str(tmp_path))[-1] == str(openmp)
