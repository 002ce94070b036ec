"""The database of a service: units of work, repositories, lists, migrations, outbox and inbox tables, watchers."""

from services.chassis.data.columns import JsonOf, UtcTime, table_of
from services.chassis.data.database import Database
from services.chassis.data.dead_letters import DeadLetter, DeadLetters
from services.chassis.data.engines import Connection
from services.chassis.data.filters import parse_filter
from services.chassis.data.housekeeping import sweep
from services.chassis.data.listing import Order, Page, PageQuery, make_token, read_token
from services.chassis.data.migration import (
    create_chassis_tables,
    create_garbage_table,
    differences,
    draft,
    rename_column,
    rewrite_json,
)
from services.chassis.data.repository import Entity, Repository, check_etag
from services.chassis.data.tables import chassis_metadata, dead_letters, outbox
from services.chassis.data.unit_of_work import UnitOfWork, execute, fetch, request_digest, retry_conflicts
from services.chassis.data.watch import QUEUE_LENGTH, Watchers

__all__ = [
    "QUEUE_LENGTH",
    "Connection",
    "Database",
    "DeadLetter",
    "DeadLetters",
    "Entity",
    "JsonOf",
    "Order",
    "Page",
    "PageQuery",
    "Repository",
    "UnitOfWork",
    "UtcTime",
    "Watchers",
    "chassis_metadata",
    "check_etag",
    "create_chassis_tables",
    "create_garbage_table",
    "dead_letters",
    "differences",
    "draft",
    "execute",
    "fetch",
    "make_token",
    "outbox",
    "parse_filter",
    "read_token",
    "rename_column",
    "request_digest",
    "retry_conflicts",
    "rewrite_json",
    "sweep",
    "table_of",
]
