"""Settings of the dataset service beside the common ones."""

from pydantic import Field

from services.chassis.settings import Settings


class DatasetSettings(Settings):
    """What the dataset service reads."""

    parallel_imports: int = Field(2, ge=1, le=64)
    """Imports that are read at once; each is a process of its own of about 150 MB."""
