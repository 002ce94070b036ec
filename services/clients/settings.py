"""Where the services listen: `MODELRY_<SERVICE>_ADDRESS`."""

from __future__ import annotations

from services.chassis.settings import Settings


class ServiceAddresses(Settings):
    """`host:port` of each service. Every process is given all of them and connects to those that it asks."""

    dataset_address: str = ""
    training_address: str = ""
    registry_address: str = ""
    evaluation_address: str = ""
    serving_address: str = ""
    access_address: str = ""

    def address_of(self, service: str) -> str:
        """The address of a service, by its name."""
        address: str = getattr(self, f"{service}_address")
        return address
