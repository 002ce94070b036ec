"""The Python client: every public method, over the one gRPC door.

    from modelry import Client

    with Client() as client:                                  # the installation of ~/.modelry, or MODELRY_URL
        job = client.create_job(job={"model": "smollm2-135m-instruct", "datasets": [{"ref": "desk"}]})
        for state in client.watch_job(job=job.id):
            print(state.progress.step, state.progress.loss)

Methods have the protos' names in snake_case; arguments are the request's fields, as messages or as JSON-like values.
The client repeats calls that failed with UNAVAILABLE when a repeat is safe, makes request ids, pages and watches.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from modelry.api_methods import Method, methods
from modelry.codec import CodecError, decode
from modelry.connection import find_connection
from modelry.direct import channel_options

TRIES = 4
FIRST_DELAY_SECONDS = 0.3
DEADLINE_SECONDS = 60.0
CHUNK_BYTES = 1 << 20
MESSAGE_BYTES = 16 << 20


class ModelryError(Exception):
    """A refusal: `reason` is a stable word, `message` says what to do, `fields` maps paths to what is wrong there."""

    def __init__(self, code: str, reason: str, message: str, fields: Mapping[str, str], metadata: Mapping[str, str]):
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
        self.fields, self.metadata = dict(fields), dict(metadata)


@cache
def method_names() -> dict[str, Method]:
    """Return every method by the name that it has on a client."""
    return {method.call_name: method for method in methods()}


class Client:
    """One connection to an installation. Close it, or use it in a `with` block. Safe to share between threads."""

    def __init__(self, url: str = "", key: str = "", project: str = "", home: str = "", ca_file: str = "") -> None:
        """See `modelry.connection.find_connection`. Raises: NotReachable."""
        self.connection = find_connection(url, key, project, home, ca_file)
        options = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]
        options += channel_options(direct=self.connection.direct)
        address, authorities = self.connection.grpc_address, self.connection.authorities.encode() or None
        if self.connection.encrypted:
            trusted = grpc.ssl_channel_credentials(authorities)
            self._channel = grpc.secure_channel(address, trusted, options=options)
        else:
            self._channel = grpc.insecure_channel(address, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = method_names().get(name) if not name.startswith("_") else None
        if method is None:
            raise AttributeError(f"Modelry has no method {name!r}")
        return lambda **fields: self.call(method, fields)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *method_names()})

    def call(self, method: Method, fields: Mapping[str, Any], timeout: float | None = DEADLINE_SECONDS) -> Any:
        """Call a method. Returns: its message, or an iterator of messages. Raises: ModelryError."""
        request: Any = build_request(method, fields)
        if method.creates and not method.client_streaming and not request.request_id:
            request.request_id = uuid.uuid4().hex
        if method.server_streaming:
            return self._stream(method, request)
        safe = method.creates or method.repeatable
        stub = self._stub(method, "unary_unary")
        return self._repeat(lambda: stub(request, metadata=self._metadata, timeout=timeout), safe)

    def upload(self, path: str, filename: str = "", purpose: str = "fine-tune") -> Any:
        """Upload a file from this machine. Returns: the File. Raises: ModelryError, OSError."""
        method = method_names()["upload_file"]
        request_id = uuid.uuid4().hex

        def chunks() -> Iterator[Message]:
            name = filename or path.rsplit("/", 1)[-1]
            yield method.request(filename=name, purpose=purpose, request_id=request_id)
            with open(path, "rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield method.request(data=chunk)

        stub = self._stub(method, "stream_unary")
        return self._repeat(lambda: stub(chunks(), metadata=self._metadata), safe=True)

    def pages(self, name: str, field: str, **fields: Any) -> Iterator[Any]:
        """Yield every item of a list method, page after page: `client.pages("list_jobs", "jobs")`."""
        token = ""
        while True:
            page = self.call(method_names()[name], {**fields, "page_token": token})
            yield from getattr(page, field)
            token = page.next_page_token
            if not token:
                return

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        project = self.connection.project
        named = (("modelry-project", project),) if project else ()
        return (("authorization", f"Bearer {self.connection.key}"), *named)

    def _stub(self, method: Method, kind: str) -> Any:
        return getattr(self._channel, kind)(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )

    def _repeat(self, call: Callable[[], Any], safe: bool) -> Any:
        """Return the answer; repeat a call that may be repeated while nothing answers."""
        failures = 0
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                failures += 1
                if failures == TRIES or not safe or error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise translate(error) from error
                time.sleep(FIRST_DELAY_SECONDS * 2 ** (failures - 1))

    def _stream(self, method: Method, request: Message) -> Iterator[Any]:
        """Yield the messages of a stream; one that breaks is taken up again where it was, if it has a cursor."""
        stub = self._stub(method, "unary_stream")
        cursor = next((n for n in ("after_version", "after") if n in method.request.DESCRIPTOR.fields_by_name), None)
        failures = 0
        while True:
            try:
                for item in stub(request, metadata=self._metadata):
                    failures = 0
                    if cursor:
                        setattr(request, cursor, getattr(item, "sequence" if cursor == "after" else "version", 0))
                    yield item
            except grpc.RpcError as error:
                failures += 1
                if not cursor or failures > TRIES or error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise translate(error) from error
                time.sleep(FIRST_DELAY_SECONDS * 2**failures)
            else:
                return


def build_request(method: Method, fields: Mapping[str, Any]) -> Message:
    """Return the request of a call; fields may be messages or JSON-like values. Raises: ModelryError with the paths."""
    request = method.request()
    plain: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Message):
            getattr(request, name).CopyFrom(value)
        else:
            plain[name] = value
    try:
        decode(plain, request)
        method.mask_by_body(request, plain.get(method.body) or ())
        return request
    except CodecError as error:
        problems = {problem.field: problem.message for problem in error.problems}
        raise ModelryError("INVALID_ARGUMENT", "INVALID_FIELD", str(error), problems, {}) from error


def translate(error: grpc.RpcError) -> ModelryError:
    """Return a gRPC error with its details as ours."""
    code, text = error.code(), error.details() or ""
    status = rpc_status.from_call(error)
    reason, fields, metadata = code.name, {}, {}
    for detail in status.details if status else ():
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            fields = {violation.field: violation.description for violation in bad.field_violations}
    return ModelryError(code.name, reason, text, fields, metadata)
