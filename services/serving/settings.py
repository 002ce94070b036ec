"""Settings of serving: `MODELRY_SERVING_<NAME>`."""

from pydantic import Field

from services.chassis.launch import LaunchSettings
from services.clients.settings import ServiceAddresses


class ServingSettings(LaunchSettings, ServiceAddresses):
    """How replicas start, when they count as dead, and how they end."""

    http_address: str = Field("", description="address of the gateway that `base_url` shows; else the embedded one's")
    max_context_length: int = Field(8192, ge=128, description="longest context of a replica unless one is asked for")
    max_lora_rank: int = Field(64, ge=1, le=512, description="largest rank of an adapter that may be attached")
    max_loras: int = Field(4, ge=1, le=64, description="different adapters in one batch of a replica")
    max_adapters: int = Field(32, ge=1, description="adapters that one deployment holds")
    max_choices: int = Field(128, ge=1, le=1024, description="largest `n` of a call; a new one needs new replicas")
    max_logprobs: int = Field(20, ge=0, le=1000, description="most tokens that a call is told the odds of at one place")
    start_seconds: float = Field(600, gt=0, description="a replica that is not ready by then is begun anew")
    unhealthy_seconds: float = Field(
        60,
        gt=0,
        description="a ready replica that does not get on for so long is replaced; on CPUs a large model gets more, as "
        "long as its longest step may take",
    )
    probe_seconds: float = Field(5, gt=0, description="how often a ready replica is asked for its health")
    stable_seconds: float = Field(60, gt=0, description="ready for so long, an end counts as the first one again")
    backoff_min_seconds: float = Field(1, gt=0, description="first delay before a replica that ended is started again")
    backoff_max_seconds: float = Field(60, gt=0, description="longest delay before a replica is started again")
    failing_restarts: int = Field(3, ge=1, description="failed starts in a row that make a deployment FAILING")
    acknowledge_seconds: float = Field(10, gt=0, description="longest wait for the gateways before a replica drains")
    gateway_seconds: float = Field(15, gt=0, description="a gateway that was silent for so long is gone")
    drain_seconds: float = Field(60, gt=0, description="what running requests get before a replica is killed")
    replicas_kept: int = Field(20, ge=0, description="ended replicas that a deployment still shows")
    prepare_seconds: float = Field(3600, gt=0, description="longest run of the program that merges or describes")
    meter_seconds: float = Field(30, gt=0, description="how often used replica-hours are written down")
    slice_seconds: float = Field(3600, gt=0, description="length of a line of the ledger")
