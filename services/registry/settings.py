"""Settings of the registry: `MODELRY_REGISTRY_<NAME>`."""

from __future__ import annotations

from pydantic import Field

from services.chassis.launch import LaunchSettings


class RegistrySettings(LaunchSettings):
    """Where presets come from, and how they are prepared.

    `preset_folder` holds a folder for each preset, by name, in Hugging Face's layout; it is looked at before the
    package and the hub. `prepare_attempts` is how often a preparation that breaks off is begun again.
    """

    preset_folder: str = ""
    prepare_cpus: int = Field(1, ge=1)
    prepare_attempts: int = Field(3, ge=1)
    prepare_seconds: float = Field(3600, gt=0)
