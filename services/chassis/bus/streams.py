"""The two streams of the bus: how they are called, what they take and how long they keep it."""

from typing import Any

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from services.chassis.settings import Settings

EVENTS_STREAM = "MODELRY_EVENTS"
WORK_STREAM = "MODELRY_WORK"
STREAM_SUBJECTS = {EVENTS_STREAM: "modelry.events.>", WORK_STREAM: "modelry.work.>"}

NO_SPACE = 10047
"""The server's error code for a stream that is larger than what it may store."""

LEAST_BYTES = 64 << 20
"""A server that cannot give a stream this much is too small."""

_DAY = 86400.0


def stream_configs(settings: Settings) -> list[StreamConfig]:
    """Return the streams as they should be."""
    common: dict[str, Any] = {
        "retention": RetentionPolicy.LIMITS,
        "storage": StorageType.FILE,
        "duplicate_window": settings.duplicate_window_seconds,
    }
    return [
        StreamConfig(
            name=EVENTS_STREAM,
            subjects=[STREAM_SUBJECTS[EVENTS_STREAM]],
            max_age=settings.events_days * _DAY,
            max_bytes=settings.events_bytes,
            discard=DiscardPolicy.NEW,  # nothing is pushed out: the outbox waits
            **common,
        ),
        StreamConfig(
            name=WORK_STREAM,
            subjects=[STREAM_SUBJECTS[WORK_STREAM]],
            max_age=settings.work_days * _DAY,
            max_bytes=settings.work_bytes,
            discard=DiscardPolicy.OLD,  # what is pushed out is still in the worker's spool
            **common,
        ),
    ]


def differ(have: StreamConfig, wanted: StreamConfig) -> bool:
    """Return whether a stream needs an update. One that got fewer bytes for want of room stays as it is."""
    smaller = have.max_bytes is not None and 0 < have.max_bytes < (wanted.max_bytes or 0)
    return (
        have.max_age != wanted.max_age
        or have.duplicate_window != wanted.duplicate_window
        or have.discard != wanted.discard
        or (have.max_bytes != wanted.max_bytes and not smaller)
    )
