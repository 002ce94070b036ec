"""Types that have a form of their own in JSON: money, times, durations, field masks."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

NANOS = 1_000_000_000


def format_money(units: int, nanos: int) -> str:
    """`12.34`: at least two decimals, no more than are needed."""
    amount = Decimal(units) + Decimal(nanos) / NANOS
    text = f"{amount:.9f}".rstrip("0")
    whole, _, part = text.partition(".")
    return f"{whole}.{part.ljust(2, '0')}"


def parse_money(value: Any) -> tuple[int, int]:
    """(units, nanos) of a decimal string or number. Raises: ValueError, InvalidOperation."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    amount = Decimal(str(value).strip())
    if not abs(amount) < 2**62:
        raise ValueError
    total = int((amount * NANOS).to_integral_exact())
    if amount * NANOS != total:
        raise ValueError
    sign = -1 if total < 0 else 1
    return sign * (abs(total) // NANOS), sign * (abs(total) % NANOS)


def _read_money(value: Any, message: Any) -> None:
    message.units, message.nanos = parse_money(value)


def _format_time(message: Any) -> str:
    time = datetime.fromtimestamp(message.seconds, UTC).replace(microsecond=message.nanos // 1000)
    return time.isoformat(timespec="microseconds" if time.microsecond else "seconds").replace("+00:00", "Z")


def _read_time(value: Any, message: Any) -> None:
    if not isinstance(value, str):
        raise ValueError
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:
        raise ValueError
    message.FromDatetime(time.astimezone(UTC).replace(tzinfo=None))


def _format_duration(message: Any) -> str:
    seconds = Decimal(message.seconds) + Decimal(message.nanos) / NANOS
    text = f"{seconds:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "s"


def parse_seconds(value: Any) -> float:
    """Return seconds of `3.5s`, `10m`, `2h`, `7d`, or of a bare number. Raises: ValueError."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    match = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*(s|m|h|d|)\s*", str(value))
    if match is None:
        raise ValueError
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _read_duration(value: Any, message: Any) -> None:
    message.FromTimedelta(timedelta(seconds=parse_seconds(value)))


def _read_mask(value: Any, message: Any) -> None:
    names = value.split(",") if isinstance(value, str) else list(value)
    message.paths.extend(str(name).strip() for name in names if str(name).strip())


_Special = tuple[Callable[[Any], Any], Callable[[Any, Any], None], str]
SPECIAL: dict[str, _Special] = {
    "google.protobuf.Timestamp": (_format_time, _read_time, "a time such as 2026-01-31T12:00:00Z"),
    "google.protobuf.Duration": (_format_duration, _read_duration, "a duration such as 3.5s"),
    "google.protobuf.FieldMask": (lambda m: ",".join(m.paths), _read_mask, "names of fields, with commas"),
    "modelry.common.v1.Money": (lambda m: format_money(m.units, m.nanos), _read_money, "an amount such as 12.34"),
}
