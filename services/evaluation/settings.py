"""Settings of the evaluation service beside the common ones."""

from pydantic import Field

from services.chassis.jobs import JobSettings
from services.clients.settings import ServiceAddresses


class EvaluationSettings(JobSettings, ServiceAddresses):
    """What the evaluation service reads."""

    worker_cpus: int = Field(
        0, ge=0, description="most cores that a worker takes; 0 is all that are free when it starts"
    )
    worker_memory_mb: int = Field(
        6144, ge=512, description="memory of a worker in MiB: a small model in torch and in vLLM"
    )
    kv_space_gb: int = Field(1, ge=1, le=1024, description="space for keys and values of a CPU engine in GiB")
    benchmarks_prefix: str = Field(
        "benchmarks", description="prefix in the installation's bucket that holds benchmarks, a folder each"
    )
    choices_per_second: float = Field(
        20.0, gt=0, description="multiple-choice questions scored in a second here on a 135M model, for quotes"
    )
    tokens_per_second: float = Field(
        250.0, gt=0, description="tokens generated in a second here on a 135M model, for quotes"
    )
