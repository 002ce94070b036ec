"""Where the services listen: `MODELRY_<SERVICE>_ADDRESS`."""

from pydantic import Field

from services.chassis.settings import Settings


class ServiceAddresses(Settings):
    """`host:port` of each service. Every process is given all of them and connects to those that it asks."""

    dataset_address: str = Field("", description="gRPC address of dataset")
    training_address: str = Field("", description="gRPC address of training")
    registry_address: str = Field("", description="gRPC address of registry")
    evaluation_address: str = Field("", description="gRPC address of evaluation")
    serving_address: str = Field("", description="gRPC address of serving")
    access_address: str = Field("", description="gRPC address of access")

    def address_of(self, service: str) -> str:
        """The address of a service, by its name."""
        address: str = getattr(self, f"{service}_address")
        return address
