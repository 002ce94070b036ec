"""Settings of the evaluation service beside the common ones."""

from pydantic import Field

from services.chassis.jobs import JobSettings


class EvaluationSettings(JobSettings):
    """What the evaluation service reads."""

    worker_cpus: int = Field(0, ge=0)
    """Cores of a worker; 0: all that the launcher gives out."""
    worker_memory_mb: int = Field(6144, ge=512)
    """Memory of a worker in MiB: a small model in torch and in vLLM."""
    kv_space_gb: int = Field(1, ge=1, le=1024)
    """Space for keys and values of a CPU engine in GiB."""
    benchmarks_prefix: str = "benchmarks"
    """Prefix in the installation's bucket below which its own copies of benchmarks are, a folder each."""
    choices_per_second: float = Field(20.0, gt=0)
    """Multiple-choice questions that this machine scores in a second on a 135M model, for quotes."""
    tokens_per_second: float = Field(250.0, gt=0)
    """Tokens that this machine generates in a second on a 135M model, for quotes."""
