"""The bus: NATS with JetStream. A process has one `Bus`; what it publishes and hears hangs on it.

- `Bus` (connection.py) keeps a connection alive in the background, for ever, and makes the streams.
- `KvWriter`, `KvKeeper` and `KvReader` (kv.py, kv_reader.py) keep derived records in a bucket and follow them.
- `WorkerGate` and `worker_login` (worker_auth.py) let each worker in for its own job.

What stands between the bus and a database (the relay, durable consumers) is `services.chassis.delivery`; nothing here
loads a database, so that workers and the gateway can use it.
"""

from services.chassis.bus.connection import Bus
from services.chassis.bus.kv import KvKeeper, KvWriter, encode_key, parse_record
from services.chassis.bus.kv_reader import KvReader, decode_key
from services.chassis.bus.session import Session, retry_delay
from services.chassis.bus.streams import EVENTS_STREAM, STREAM_SUBJECTS
from services.chassis.bus.worker_auth import WorkerGate, callout_config, worker_login

__all__ = [
    "EVENTS_STREAM",
    "STREAM_SUBJECTS",
    "Bus",
    "KvKeeper",
    "KvReader",
    "KvWriter",
    "Session",
    "WorkerGate",
    "callout_config",
    "decode_key",
    "encode_key",
    "parse_record",
    "retry_delay",
    "worker_login",
]
