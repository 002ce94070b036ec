"""Start programs on cores of their own, find them again after a restart, and end them with all they started."""

from services.chassis.launch.cgroups import machine_limits
from services.chassis.launch.holders import Holder, holders_text
from services.chassis.launch.libraries import find_libraries, preloaded
from services.chassis.launch.local import LocalLauncher
from services.chassis.launch.program_result import (
    PROGRAM_SPEC_FILE,
    PROGRESS_FILE,
    RESULT_FILE,
    ProgramResult,
    read_result,
    write_progress,
    write_result,
    write_spec,
)
from services.chassis.launch.program_run import ProgramRun
from services.chassis.launch.records import Record, Records, is_locked, lock_folder, probe
from services.chassis.launch.settings import LaunchSettings
from services.chassis.launch.slots import NEVER_FITS, NO_FREE_SLOT, Capacity, Claim, Demand, assign, cpu_list
from services.chassis.launch.spec import Handle, Launcher, LaunchSpec, Probe, ProbeState
from services.chassis.launch.surroundings import (
    INHERITED,
    LONGEST_TEMPORARY_BYTES,
    NAMELESS,
    SET_ALWAYS,
    inherited,
    without_proxy,
)
from services.chassis.launch.walls import Kind, Walls

__all__ = [
    "INHERITED",
    "LONGEST_TEMPORARY_BYTES",
    "NAMELESS",
    "NEVER_FITS",
    "NO_FREE_SLOT",
    "PROGRAM_SPEC_FILE",
    "PROGRESS_FILE",
    "RESULT_FILE",
    "SET_ALWAYS",
    "Capacity",
    "Claim",
    "Demand",
    "Handle",
    "Holder",
    "Kind",
    "LaunchSettings",
    "LaunchSpec",
    "Launcher",
    "LocalLauncher",
    "Probe",
    "ProbeState",
    "ProgramResult",
    "ProgramRun",
    "Record",
    "Records",
    "Walls",
    "assign",
    "cpu_list",
    "find_libraries",
    "holders_text",
    "inherited",
    "is_locked",
    "lock_folder",
    "machine_limits",
    "preloaded",
    "probe",
    "read_result",
    "without_proxy",
    "write_progress",
    "write_result",
    "write_spec",
]
