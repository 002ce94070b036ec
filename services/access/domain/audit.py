"""What was done, by whom, and whether it was allowed."""

from dataclasses import dataclass
from datetime import datetime

OK = "OK"


@dataclass(frozen=True)
class AuditEntry:
    """One call that changed something, or was refused. Never changed afterwards."""

    id: str
    project: str
    key_id: str
    method: str
    resource_id: str
    outcome: str
    create_time: datetime
    version: int = 1
