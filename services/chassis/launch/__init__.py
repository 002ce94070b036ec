"""Starts programs on cores of their own, finds them again after a restart, and ends them with all they started."""

from services.chassis.launch.local import LocalLauncher
from services.chassis.launch.slots import NEVER_FITS, NO_FREE_SLOT, Capacity, CapacitySettings
from services.chassis.launch.spec import Handle, Launcher, LaunchSpec, LogChunk, Probe, ProbeState, Usage

__all__ = [
    "NEVER_FITS",
    "NO_FREE_SLOT",
    "Capacity",
    "CapacitySettings",
    "Handle",
    "LaunchSpec",
    "Launcher",
    "LocalLauncher",
    "LogChunk",
    "Probe",
    "ProbeState",
    "Usage",
]
