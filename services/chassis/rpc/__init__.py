"""gRPC between Modelry's processes: the server that every service runs, and channels to other services."""

from services.chassis.rpc.client import MESSAGE_BYTES, Connections, channel, plain_channel
from services.chassis.rpc.opening import OPENED, opened
from services.chassis.rpc.server import RpcServer, handlers_of
from services.chassis.rpc.tokens import Tokens
from services.chassis.rpc.validation import read_request, validate

__all__ = [
    "MESSAGE_BYTES",
    "OPENED",
    "Connections",
    "RpcServer",
    "Tokens",
    "channel",
    "handlers_of",
    "opened",
    "plain_channel",
    "read_request",
    "validate",
]
