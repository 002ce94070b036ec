"""Projects: what belongs together and sees nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.access.domain.naming import check_metadata, check_name, check_title
from services.chassis.errors import Invalid

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
    def made(cls, project_id: str, name: str, title: str, metadata: Mapping[str, str], now: datetime) -> Project:
        """A new project. Raises: Invalid, naming the field."""
        return cls(
            id=project_id,
            name=check_name(name, "project.name"),
            title=check_title(title, "project.title"),
            metadata=check_metadata(metadata, "project.metadata"),
            create_time=now,
            update_time=now,
        )

    def update(self, changes: Mapping[str, object], now: datetime) -> Project:
        """With other values of title or metadata. Raises: Invalid: another field, or a wrong value."""
        wished = dict(changes)
        title = check_title(str(wished.pop("title", self.title)), "project.title")
        metadata = wished.pop("metadata", self.metadata)
        assert isinstance(metadata, Mapping)
        for name in wished:
            raise Invalid(f"project.{name} cannot be changed; title and metadata can.", field=f"project.{name}")
        checked = check_metadata(metadata, "project.metadata")
        return replace(self, title=title, metadata=checked, version=self.version + 1, update_time=now)
