"""What stands beside a version: the running side of its import, and its report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.dataset.domain.entities import DatasetVersion


@dataclass(frozen=True)
class Work:
    """The running side of an import; changes often and never changes the version of the resource.

    Attributes:
        token: fencing token, one more with each claim.
        failures: attempts in a row that broke off.
        owner: process that claimed it, empty when nobody does.
        beat: grows while the owner works.
        retry_time: not before then, after a broken attempt.
    """

    version_id: str
    token: int = 0
    failures: int = 0
    owner: str = ""
    beat: int = 0
    row_count: int = 0
    bad_row_count: int = 0
    bytes_read: int = 0
    bytes_total: int = 0
    retry_time: datetime | None = None


@dataclass(frozen=True)
class VersionView:
    """A version with the running side of its import: what is shown and watched."""

    resource: DatasetVersion
    work: Work | None = None

    @property
    def version(self) -> int:
        """That of the resource."""
        return self.resource.version


@dataclass(frozen=True)
class RefusedRow:
    """A row that an import refused. `position` is its place in the report."""

    version_id: str
    position: int
    line: int
    field: str
    code: str
    message: str
    source: str
