"""The one table from errors to statuses, and back."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from services.chassis import errors

pytestmark = pytest.mark.unit


class _RpcError(Exception):
    """What a stub raises, as far as the translation looks at it."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, bytes], ...] = ()) -> None:
        super().__init__(details)
        self._parts = code, details, trailing

    def code(self) -> grpc.StatusCode:
        return self._parts[0]

    def details(self) -> str:
        return self._parts[1]

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return self._parts[2]


STYLE_TABLE = [
    (errors.Invalid, grpc.StatusCode.INVALID_ARGUMENT, 400),
    (errors.TooLarge, grpc.StatusCode.INVALID_ARGUMENT, 413),
    (errors.UnsupportedEncoding, grpc.StatusCode.INVALID_ARGUMENT, 415),
    (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED, 401),
    (errors.Denied, grpc.StatusCode.PERMISSION_DENIED, 403),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND, 404),
    (errors.AlreadyExists, grpc.StatusCode.ALREADY_EXISTS, 409),
    (errors.WrongState, grpc.StatusCode.FAILED_PRECONDITION, 400),
    (errors.Conflict, grpc.StatusCode.ABORTED, 409),
    (errors.OverLimit, grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    (errors.Unavailable, grpc.StatusCode.UNAVAILABLE, 503),
    (errors.Expired, grpc.StatusCode.OUT_OF_RANGE, 410),
    (errors.TooSlow, grpc.StatusCode.DEADLINE_EXCEEDED, 408),
    (errors.ModelryError, grpc.StatusCode.INTERNAL, 500),
]


def detail(status: status_pb2.Status, kind: type) -> object:
    """The detail of a kind that a status carries."""
    found = kind()
    assert any(packed.Unpack(found) for packed in status.details), f"no {kind.__name__}"
    return found


@pytest.mark.parametrize(("cls", "code", "http"), STYLE_TABLE)
def test_every_class_has_its_code_its_http_status_and_an_error_info(cls, code, http):
    error = cls("what happened", metadata={"a": "b"})
    status = errors.to_status(error, "req-1")
    info = detail(status, error_details_pb2.ErrorInfo)
    assert status.code == code.value[0]
    assert errors.code_of(error) == (status.code, http)
    assert info.domain == "modelry"
    assert info.reason == error.reason
    assert info.metadata["request_id"] == "req-1"


def test_a_subclass_counts_as_its_ancestor_and_keeps_its_reason():
    class JobNotActive(errors.WrongState):
        default_reason = "JOB_NOT_ACTIVE"

    status = errors.to_status(JobNotActive("ended"))
    assert status.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert detail(status, error_details_pb2.ErrorInfo).reason == "JOB_NOT_ACTIVE"


def test_an_internal_error_keeps_its_text_and_metadata_inside():
    status = errors.to_status(errors.ModelryError("password is 123", metadata={"path": "/secret"}), "req-1")
    assert status.message == errors.INTERNAL_MESSAGE
    assert dict(detail(status, error_details_pb2.ErrorInfo).metadata) == {"request_id": "req-1"}


def test_invalid_names_its_fields():
    status = errors.to_status(errors.Invalid("too long", field="model.name"))
    (violation,) = detail(status, error_details_pb2.BadRequest).field_violations
    assert (violation.field, violation.description) == ("model.name", "too long")


def test_wrong_state_says_the_state_and_the_states_allowed():
    error = errors.WrongState.of("job", "ftjob-1", "stop", "SUCCEEDED", {"RUNNING", "QUEUED"})
    assert error.message == "Cannot stop job 'ftjob-1': it is SUCCEEDED. It must be QUEUED or RUNNING."
    assert error.metadata == {"state": "SUCCEEDED", "allowed_states": "QUEUED,RUNNING"}


@pytest.mark.parametrize("seconds", [0.25, 1.0, 61.5])
@pytest.mark.parametrize("cls", [errors.OverLimit, errors.Unavailable])
def test_a_delay_is_carried_both_ways(cls, seconds):
    error = errors.from_status(errors.to_status(cls("later", retry_seconds=seconds)))
    assert type(error) is cls
    assert error.retry_seconds == pytest.approx(seconds)


@pytest.mark.parametrize(("cls", "code", "http"), STYLE_TABLE[:-2])
def test_a_peer_raises_what_was_raised_there(cls, code, http):
    kinds_by_reason = (errors.TooLarge, errors.UnsupportedEncoding)
    sent = cls("what happened", reason="" if cls in kinds_by_reason else "A_REASON", metadata={"state": "READY"})
    trailing = ((errors.STATUS_DETAILS_KEY, errors.to_status(sent).SerializeToString()),)
    got = errors.from_rpc_error(_RpcError(code, sent.message, trailing))
    assert type(got) is cls
    assert (got.message, got.reason, got.metadata) == (sent.message, sent.reason, sent.metadata)


def test_a_peer_that_is_away_is_unavailable_without_the_librarys_words():
    got = errors.from_rpc_error(_RpcError(grpc.StatusCode.UNAVAILABLE, "failed to connect to ipv4:127.0.0.1:1"))
    assert isinstance(got, errors.Unavailable)
    assert "127.0.0.1" not in got.message


def test_a_message_over_the_limit_of_grpc_itself_is_too_large_and_nothing_to_try_again():
    details = "Received message larger than max (20971520 vs. 16777216)"
    got = errors.from_rpc_error(_RpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, details))
    assert type(got) is errors.TooLarge


def test_a_peer_that_is_late_is_unavailable():
    got = errors.from_rpc_error(_RpcError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))
    assert isinstance(got, errors.Unavailable)


def test_a_peer_that_broke_is_an_internal_error():
    got = errors.from_rpc_error(_RpcError(grpc.StatusCode.UNKNOWN, "Traceback …"))
    assert type(got) is errors.ModelryError
