"""Whom a client trusts."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelry.connection import NotReachable, find_connection

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("content", [None, b"", b"nothing", b"\xff"])
def test_authorities_that_cannot_be_read_are_refused_by_their_name(content: bytes | None, tmp_path: Path) -> None:
    """Else the client would trust everybody's authorities, or say that nothing answers."""
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(NotReachable, match=rf"{file} \(MODELRY_CA_FILE\)"):
        find_connection(home=tmp_path, ca_file=str(file))
