"""Names from outside that become files."""

from pathlib import Path

import pytest

from services.chassis.errors import Invalid
from services.chassis.paths import inside

OUTSIDE = ["/etc/x", "../x", "a/../../x", "a//b", "./a", "", ".", "..", "a\0b", "a\nb", "a\\b", "x" * 256]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        inside(tmp_path, name)
    assert caught.value.reason == "INVALID_PATH"


def test_a_link_in_the_folder_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(Invalid):
        inside(tmp_path, "link/passwd")


@pytest.mark.parametrize("name", ["a", "a/b.csv", "数据 1/三.csv", "a..b"])
def test_any_other_name_is_a_file_below_it(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name) == tmp_path / name
