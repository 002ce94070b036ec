"""The bus: NATS with JetStream. A process has one `Bus`; what it publishes and hears hangs on it.

- `Bus` (connection.py) keeps a connection alive in the background, for ever, and makes the streams.
- `OutboxRelay` (relay.py) publishes what units of work emitted; nobody else publishes events.
- `Consumer` (consumer.py) brings events or work reports to a handler, at least once, in order, with dead letters.
- `KvWriter`, `KvKeeper` and `KvReader` (kv.py) keep derived records in a bucket and follow them.

In a service's `__main__`:

    bus = Bus(settings)
    relay = OutboxRelay(database, bus, settings)
    consumer = Consumer(bus, database, "training-on-modelVersion", "modelry.events.*.modelVersion.>", handle, settings)
    await bus.start()          # returns at once, with NATS or without
    await relay.start()
    await consumer.start()
    lacks = [*bus.degraded(), *relay.degraded()]           # for readiness: what is not there, and since when
    await consumer.stop(); await relay.stop(); await bus.close()

A handler opens its own unit of work, notes the event in the inbox and records what it means:

    async def handle(message: Message) -> None:
        event = message.event()
        async with TrainingUnit(database) as uow:
            if not await uow.first_time(message.event_id):
                return
            ...
            await uow.commit()
"""

from services.chassis.bus.connection import Bus, Session, retry_delay
from services.chassis.bus.consumer import Consumer, ConsumerSettings, Message
from services.chassis.bus.kv import KvKeeper, KvWriter, encode_key
from services.chassis.bus.kv_reader import KvReader, decode_key
from services.chassis.bus.relay import OutboxRelay
from services.chassis.bus.streams import EVENTS_STREAM
from services.chassis.bus.worker_auth import WorkerGate, callout_config, worker_login

__all__ = [
    "EVENTS_STREAM",
    "Bus",
    "Consumer",
    "ConsumerSettings",
    "KvKeeper",
    "KvReader",
    "KvWriter",
    "Message",
    "OutboxRelay",
    "Session",
    "WorkerGate",
    "callout_config",
    "decode_key",
    "encode_key",
    "retry_delay",
    "worker_login",
]
