"""Projects: what belongs together and sees nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from services.chassis.names import check_metadata, check_name

DEFAULT_NAME = "default"
DEFAULT_ID = "proj-" + "0" * 26
"""The id of the project that always exists: fixed, so that every process knows it without asking."""


@dataclass(frozen=True)
class Project:
    """A project. `project` is empty: a project belongs to the installation, and its name is unique there."""

    id: str
    name: str
    create_time: datetime
    update_time: datetime
    project: str = ""
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    version: int = 1

    @property
    def bucket(self) -> str:
        """Its bucket on the installation's store."""
        return self.id

    @classmethod
    def create(cls, project_id: str, name: str, title: str, metadata: Mapping[str, str], now: datetime) -> Project:
        """Return a new project. Raises: Invalid, naming the field."""
        check_name(name, "project.name")
        check_metadata(metadata, "project.")
        return cls(project_id, name, now, now, title=title, metadata=dict(metadata))
