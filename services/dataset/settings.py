"""Settings of the dataset service beside the common ones."""

from pydantic import Field

from services.chassis.launch import LaunchSettings
from services.clients.settings import ServiceAddresses


class DatasetSettings(LaunchSettings, ServiceAddresses):
    """What the dataset service reads."""

    parallel_imports: int = Field(
        2, ge=1, le=64, description="imports that are read at once; each is a process of its own of about 150 MB"
    )
