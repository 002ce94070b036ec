"""gRPC between Modelry's processes: the server that every service runs, and channels to other services."""

from services.chassis.rpc.client import MESSAGE_BYTES, Connections, channel, plain_channel
from services.chassis.rpc.opening import OPENED, opened
from services.chassis.rpc.server import RpcServer
from services.chassis.rpc.validation import validate

__all__ = [
    "MESSAGE_BYTES",
    "OPENED",
    "Connections",
    "RpcServer",
    "channel",
    "opened",
    "plain_channel",
    "validate",
]
