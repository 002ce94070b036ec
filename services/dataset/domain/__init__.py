"""Entities and rules of the dataset service. Pure: no I/O, no clock."""

from services.dataset.domain.checks import (
    ID_PREFIXES,
    Reference,
    check_file,
    check_size,
    version_key,
)
from services.dataset.domain.entities import (
    COMPLETE,
    FAIL,
    PUBLISH,
    TRANSITIONS,
    BadRowPolicy,
    Dataset,
    DatasetVersion,
    Format,
    Output,
    Source,
    State,
    StoredFile,
    check_import,
    nothing_published,
    require_published,
)
from services.dataset.domain.running import RefusedRow, VersionView, Work

__all__ = [
    "COMPLETE",
    "FAIL",
    "ID_PREFIXES",
    "PUBLISH",
    "TRANSITIONS",
    "BadRowPolicy",
    "Dataset",
    "DatasetVersion",
    "Format",
    "Output",
    "Reference",
    "RefusedRow",
    "Source",
    "State",
    "StoredFile",
    "VersionView",
    "Work",
    "check_file",
    "check_import",
    "check_size",
    "nothing_published",
    "require_published",
    "version_key",
]
