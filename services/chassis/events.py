"""Facts that services tell each other and the world: what an event holds, and how it looks on the bus.

An event says that one resource is now in a new state: `modelry.events.<project>.<resource>.<id>.<happening>` with
CloudEvents headers and a JSON body with the field names of `modelry.events.v1.ResourceChanged`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from services.chassis.clock import now
from services.chassis.ids import new_id

PREFIX = "modelry.events"
SOURCE = "modelry"
MESSAGE_ID = "Nats-Msg-Id"

_ESCAPES = str.maketrans({char: f"%{ord(char):02X}" for char in ".*>% \t\r\n\0"})
_to_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for each call


class Malformed(Exception):
    """A message that no handler will ever understand; it goes to the dead letters at once."""


def token(text: str) -> str:
    """Return a name as one token of a subject: what has a meaning there is written as in URLs (`a.b` -> `a%2Eb`)."""
    if not text:
        raise ValueError("a token of a subject is empty")
    return text.translate(_ESCAPES)


@dataclass(frozen=True)
class Event:
    """One change of one resource, past tense.

    `resource` is the noun of the API (`job`, `datasetVersion`), `happening` the new state or fact (`succeeded`),
    `links` the ids of what it belongs to by kind (`{"model_version": "mv-…"}`), `cause` plain words. `terminal` marks
    the one event after which the resource's state changes no more.
    """

    project: str
    resource: str
    resource_id: str
    happening: str
    state: str
    previous_state: str = ""
    version: int = 0
    cause: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    terminal: bool = False
    id: str = field(default_factory=lambda: new_id("evt_"))
    time: datetime = field(default_factory=now)

    @property
    def subject(self) -> str:
        """Where it is published."""
        return ".".join((PREFIX, *map(token, (self.project, self.resource, self.resource_id, self.happening))))

    @property
    def ordering_key(self) -> str:
        """Events with the same key are published one after the other."""
        return f"{self.resource}/{self.resource_id}"

    def body(self) -> str:
        """Its data as JSON."""
        return _to_json({"id": self.id, **vars(self), "links": dict(self.links), "time": rfc3339(self.time)})

    def headers(self) -> dict[str, str]:
        """CloudEvents 1.0 attributes and the trace in which it happened."""
        # Imported here: the worker side and pure tests need no telemetry.
        from services.chassis.telemetry import inject

        headers = {
            "ce-specversion": "1.0",
            "ce-id": self.id,
            "ce-source": SOURCE,
            "ce-type": f"modelry.{self.resource}.{self.happening}",
            "ce-subject": self.resource_id,
            "ce-time": rfc3339(self.time),
            "content-type": "application/json",
        }
        inject(headers)
        return headers

    @classmethod
    def parse(cls, data: bytes) -> "Event":
        """Return the event of a message's data. Raises: Malformed: it is not one."""
        try:
            body: dict[str, Any] = json.loads(data)
            converted = {
                "id": body["id"],
                "version": int(body["version"]),
                "links": dict(body.get("links") or {}),
                "terminal": bool(body.get("terminal", False)),
                "time": datetime.fromisoformat(body["time"]),
            }
            return cls(**{name: body[name] for name in _FIELDS & body.keys()} | converted)
        except (ValueError, KeyError, TypeError) as error:
            raise Malformed(f"this is no event: {error!r}") from error


_FIELDS = {each.name for each in fields(Event)}


@dataclass(frozen=True)
class Record:
    """A derived, versioned value of a KV bucket. `value` None says that the thing is gone; the record stays."""

    bucket: str
    key: str
    version: int
    value: Mapping[str, Any] | None
    id: str = field(default_factory=lambda: new_id("rec_"))

    @property
    def ordering_key(self) -> str:
        """Return what orders its records: those of one key are put one after the other."""
        return f"{self.bucket}/{self.key}"

    def body(self) -> str:
        """Return what the outbox keeps."""
        return _to_json({"key": self.key, "version": self.version, "value": self.value})


def rfc3339(moment: datetime) -> str:
    """Return a time as JSON shows it."""
    return moment.isoformat().replace("+00:00", "Z")
