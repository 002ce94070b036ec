"""The two streams of the bus: how they are called, what they take and how long they keep it."""

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
    kept = {  # events: nothing is pushed out, the outbox waits; work: what is pushed out is still in the worker's spool
        EVENTS_STREAM: (settings.events_days, settings.events_bytes, DiscardPolicy.NEW),
        WORK_STREAM: (settings.work_days, settings.work_bytes, DiscardPolicy.OLD),
    }
    return [
        StreamConfig(
            name=name,
            subjects=[STREAM_SUBJECTS[name]],
            max_age=days * _DAY,
            max_bytes=size,
            discard=discard,
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            duplicate_window=settings.duplicate_window_seconds,
        )
        for name, (days, size, discard) in kept.items()
    ]


def differ(have: StreamConfig, wanted: StreamConfig) -> bool:
    """Return whether a stream needs an update. One that got fewer bytes for want of room stays as it is."""
    smaller = have.max_bytes is not None and 0 < have.max_bytes < (wanted.max_bytes or 0)
    same = all(getattr(have, name) == getattr(wanted, name) for name in ("max_age", "duplicate_window", "discard"))
    return not same or (have.max_bytes != wanted.max_bytes and not smaller)
