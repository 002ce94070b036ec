"""What may go wrong, in words a caller can act on.

Code raises these classes and knows nothing of transports; one table says what each becomes on gRPC and on HTTP.
Anything that is not one of them is an internal error: it is logged whole and answered with a fixed text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from google.rpc import code_pb2, error_details_pb2, status_pb2

if TYPE_CHECKING:
    import grpc

T = TypeVar("T")
DOMAIN = "modelry"
"""The `domain` of every ErrorInfo."""

INTERNAL_MESSAGE = "Something went wrong inside Modelry. Give the request id to your administrator."
"""The only text that a caller sees of an error that nobody foresaw."""

_MOST_VIOLATIONS = 20
STATUS_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class Violation:
    """One field of a request that cannot be accepted: its path (`dataset.name`), and why."""

    field: str
    message: str
    reason: str = "INVALID_FIELD"

    @classmethod
    def of(cls, field: str, words: str, reason: str = "INVALID_FIELD") -> Violation:
        """Return a violation whose message is the field's path with some words."""
        return cls(field, f"{field} {words}", reason)


class ModelryError(Exception):
    """An error with a message for people (what, and what to do), a stable reason and metadata for programs."""

    default_reason = "INTERNAL"

    def __init__(
        self, message: str, *, reason: str = "", metadata: Mapping[str, str] | None = None, retry_seconds: float = 1.0
    ) -> None:
        """Args: retry_seconds: when to try again, where that may help (OverLimit, Unavailable); 0: never by itself."""
        super().__init__(message)
        self.message, self.retry_seconds = message, retry_seconds
        self.reason = reason or self.default_reason
        self.metadata: dict[str, str] = dict(metadata or {})


class Invalid(ModelryError):
    """The request cannot be right, whatever the state of things. Names the field or fields."""

    default_reason = "INVALID_FIELD"

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        reason: str = "",
        violations: Sequence[Violation] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        if field and not violations:
            violations = (Violation(field, message, self.reason),)
        self.violations: tuple[Violation, ...] = tuple(violations)

    @classmethod
    def of(cls, violations: Iterable[Violation]) -> Invalid:
        """Return one error that names up to 20 fields; their messages have no full stop."""
        named = list(islice(violations, _MOST_VIOLATIONS))
        text = " ".join(f"{violation.message}." for violation in named)
        return cls(text, reason=named[0].reason, violations=named)

    @property
    def field(self) -> str:
        """Path of the first field that was refused, or nothing."""
        return self.violations[0].field if self.violations else ""


class TooLarge(Invalid):
    """A body, file or message is over its limit; the same one never fits, so nobody should send it again."""

    default_reason = "BODY_TOO_LARGE"

    @classmethod
    def over(cls, limit_bytes: int, advice: str = "") -> TooLarge:
        """Return the usual sentence, with what to do and the limit for programs."""
        message = f"The body is over {limit_bytes / (1 << 20):g} MiB. {advice}".strip()
        return cls(message, field="body", metadata={"limit_bytes": str(limit_bytes)})


class UnsupportedEncoding(Invalid):
    """A body is packed in a way that is not unpacked here."""

    default_reason = "UNSUPPORTED_ENCODING"


class TooSlow(ModelryError):
    """The caller takes too long to send its request; sent again it may come in time."""

    default_reason = "SLOW_BODY"


class Unauthenticated(ModelryError):
    """Nobody knows who is calling."""

    default_reason = "INVALID_API_KEY"


class Denied(ModelryError):
    """The caller is known and may not do this."""

    default_reason = "PERMISSION_DENIED"


class NotFound(ModelryError):
    """There is no such thing in the caller's project; another project's things do not exist either."""

    default_reason = "NOT_FOUND"

    @classmethod
    def of(cls, kind: str, ref: str) -> NotFound:
        """Return the usual sentence, for a kind of thing and what the caller wrote to name it."""
        place = "" if kind == "project" else " in this project"
        message = f"There is no {kind} {ref!r}{place}."
        return cls(message, metadata={"resource": kind, "name": ref})


class AlreadyExists(ModelryError):
    """The name is taken, or the request id was used with another body."""

    default_reason = "ALREADY_EXISTS"


class WrongState(ModelryError):
    """The thing is in a state that does not allow this; `metadata` says the state now and the states allowed."""

    default_reason = "WRONG_STATE"

    @classmethod
    def of(cls, kind: str, ref: str, verb: str, state: str, allowed: Iterable[str], reason: str = "") -> WrongState:
        """Return the usual sentence: which thing, what was asked, its state, and the states that allow it."""
        states = sorted(allowed)
        needed = f" It must be {' or '.join(states)}." if states else ""
        message = f"Cannot {verb} {kind} {ref!r}: it is {state}.{needed}"
        return cls(message, reason=reason, metadata={"state": state, "allowed_states": ",".join(states)})


class Conflict(ModelryError):
    """Somebody changed the thing meanwhile: read it again, then repeat."""

    default_reason = "CONFLICT"


class PreconditionFailed(Conflict):
    """A conflict with what the caller itself required by `If-Match`; only HTTP tells the two apart."""


class Expired(ModelryError):
    """What was asked for existed and is kept no longer (an event cursor)."""

    default_reason = "EXPIRED"


class _Retryable(ModelryError):
    """An error that may be gone after `retry_seconds`."""


class OverLimit(_Retryable):
    """A rate, a quota or a capacity is used up."""

    default_reason = "RATE_LIMIT_EXCEEDED"


class Unavailable(_Retryable):
    """A part that is needed does not answer now; the same call may succeed later."""

    default_reason = "UNAVAILABLE"


def at_field(error: ModelryError, path: str) -> ModelryError:
    """Return a refusal as one of the field of the request that asked for it; any other error as it is.

    NotFound, WrongState and Denied keep their kind and get the metadata `field`, Invalid gets a violation. The message
    begins with the path, once: a path of the service that refused, which the caller did not write, is taken off.
    """
    if not isinstance(error, Invalid | NotFound | WrongState | Denied):
        return error
    inner = error.field if isinstance(error, Invalid) else error.metadata.get("field", "")
    bare = error.message.removeprefix(f"{path}: ").removeprefix(f"{inner}: ")
    if isinstance(error, Invalid):
        violations = (Violation(path, bare, error.reason),)
        return Invalid(f"{path}: {bare}", reason=error.reason, violations=violations, metadata=error.metadata)
    return type(error)(f"{path}: {bare}", reason=error.reason, metadata={**error.metadata, "field": path})


async def with_field(path: str, answer: Awaitable[T]) -> T:
    """Return the answer of another part; what it refuses is said of the field at `path` (see `at_field`)."""
    try:
        return await answer
    except ModelryError as error:
        named = at_field(error, path)
        if named is error:
            raise
        raise named from error


TABLE: dict[type[ModelryError], tuple[int, int]] = {
    Invalid: (code_pb2.INVALID_ARGUMENT, 400),
    TooLarge: (code_pb2.INVALID_ARGUMENT, 413),
    UnsupportedEncoding: (code_pb2.INVALID_ARGUMENT, 415),
    TooSlow: (code_pb2.DEADLINE_EXCEEDED, 408),
    Unauthenticated: (code_pb2.UNAUTHENTICATED, 401),
    Denied: (code_pb2.PERMISSION_DENIED, 403),
    NotFound: (code_pb2.NOT_FOUND, 404),
    AlreadyExists: (code_pb2.ALREADY_EXISTS, 409),
    WrongState: (code_pb2.FAILED_PRECONDITION, 400),
    Conflict: (code_pb2.ABORTED, 409),
    PreconditionFailed: (code_pb2.ABORTED, 412),
    Expired: (code_pb2.OUT_OF_RANGE, 410),
    OverLimit: (code_pb2.RESOURCE_EXHAUSTED, 429),
    Unavailable: (code_pb2.UNAVAILABLE, 503),
    ModelryError: (code_pb2.INTERNAL, 500),
}
"""Class of error -> (gRPC code, HTTP status). A subclass counts as its nearest ancestor here."""


def code_of(error: ModelryError) -> tuple[int, int]:
    """Return (gRPC code, HTTP status) of an error."""
    return next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)


def to_status(error: ModelryError, request_id: str = "") -> status_pb2.Status:
    """Return the error as google.rpc.Status, with ErrorInfo and what else its class carries.

    A plain ModelryError is an internal one: its text stays inside.
    """
    code, _ = code_of(error)
    internal = code == code_pb2.INTERNAL
    metadata = {} if internal else dict(error.metadata)
    if request_id:
        metadata["request_id"] = request_id
    status = status_pb2.Status(code=code, message=INTERNAL_MESSAGE if internal else error.message)
    reason = "INTERNAL" if internal else error.reason
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata))
    if isinstance(error, Invalid) and error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(field=violation.field, description=violation.message, reason=violation.reason)
        status.details.add().Pack(bad)
    if isinstance(error, _Retryable):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_seconds * 1e9))
        status.details.add().Pack(retry)
    return status


def from_status(status: status_pb2.Status) -> ModelryError:
    """Return the error that `to_status` was given, as far as the status still tells."""
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        for known in (info, bad, retry):
            detail.Unpack(known)  # nothing happens where it is another one
    metadata = dict(info.metadata)
    seconds = retry.retry_delay.ToNanoseconds() / 1e9
    code = int(status.code)
    if code == code_pb2.INVALID_ARGUMENT:
        violations = [Violation(v.field, v.description, v.reason) for v in bad.field_violations]
        refusal = next((one for one in (TooLarge, UnsupportedEncoding) if one.default_reason == info.reason), Invalid)
        return refusal(status.message, reason=info.reason, violations=violations, metadata=metadata)
    if code == code_pb2.RESOURCE_EXHAUSTED and not info.reason:  # gRPC itself says so of a message over its limit
        return TooLarge("A message of this call is over the limit of gRPC.", metadata=metadata)
    if code in (code_pb2.DEADLINE_EXCEEDED, code_pb2.CANCELLED):
        return Unavailable("A part of Modelry did not answer in time.", reason="TIMEOUT", metadata=metadata)
    for cls, (known_code, _) in TABLE.items():
        if known_code == code and issubclass(cls, _Retryable):
            message = status.message if info.reason else "A part of Modelry does not answer now; try again."
            return cls(message, reason=info.reason, metadata=metadata, retry_seconds=seconds or 1.0)
        if known_code == code:
            return cls(status.message, reason=info.reason, metadata=metadata)
    return ModelryError(status.message, reason="INTERNAL", metadata=metadata)


def from_rpc_error(error: grpc.aio.AioRpcError | grpc.RpcError) -> ModelryError:
    """Return what a peer answered, as the error that it raised there; raise it `from` the one given."""
    call: Any = error
    if details := dict(call.trailing_metadata() or ()).get(STATUS_DETAILS_KEY):
        return from_status(status_pb2.Status.FromString(details))
    return from_status(status_pb2.Status(code=call.code().value[0], message=call.details() or ""))
