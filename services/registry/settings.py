"""Settings of the registry: `MODELRY_REGISTRY_<NAME>`."""

from pydantic import Field

from services.chassis.launch import LaunchSettings
from services.clients.settings import ServiceAddresses


class RegistrySettings(LaunchSettings, ServiceAddresses):
    """Where presets come from, and how they are prepared."""

    preset_folder: str = Field(
        "", description="folder of presets in Hugging Face's layout, by name; looked at before the package and the hub"
    )
    prepare_attempts: int = Field(3, ge=1, description="how often a preparation that breaks off is begun")
    prepare_seconds: float = Field(3600, gt=0, description="longest run of a preparation")
