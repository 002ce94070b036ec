"""Reports of worker programs: a spool on disk, and its way over the bus to the service."""

from services.chassis.reporting.reporter import SPEC_FILE, Reporter
from services.chassis.reporting.spool import Spool, read_spool

__all__ = [
    "SPEC_FILE",
    "Reporter",
    "Spool",
    "read_spool",
]
