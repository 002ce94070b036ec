"""The channels to the services: what each door repeats when nothing answers, as the protos say."""

from collections.abc import Mapping

from gateway.context import Channels
from modelry.api_methods import methods
from services.chassis.rpc import plain_channel


def open_channels(addresses: Mapping[str, str], *, creates: bool) -> Channels:
    """Return channels that repeat what may be repeated.

    Args: creates: creates are repeated too, for a door that gives each of them a request id.
    """
    repeated = [one.path for one in methods() if one.repeatable or (creates and one.creates)]
    return {name: plain_channel(address, repeated) for name, address in addresses.items()}
