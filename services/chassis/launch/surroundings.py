"""What our programs see of the environment that they are started in: a list of what passes, with the reasons.

Everything else stays outside, so that what another tool left over (AWS_PROFILE, RANK of a torchrun, PYTHONPATH,
VLLM_PORT of a Kubernetes service, a password) neither stops a program nor reaches it. The supervisor makes the
environment of services and servers by it, the launcher that of workers, replicas and one-shot programs. `make docs`
writes it to docs/reference/environment.md.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
# A UNIX socket's path has at most 107 bytes; below the folder, vLLM takes 37 of them and multiprocessing 32.
LONGEST_TEMPORARY_BYTES = 64


@dataclass(frozen=True)
class Group:
    """Names that pass for one reason; `*` at the end stands for any rest. `programs`: also to what services start."""

    why: str
    names: tuple[str, ...]
    programs: bool = True


INHERITED = (
    Group("the system's own", ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR")),
    Group(
        "where temporary files go, unless its name is too long for sockets: then the system's own folder", ("TMPDIR",)
    ),
    Group(
        "libraries: where they and their compilers are, and the memory allocator",
        (
            *("LD_LIBRARY_PATH", "LD_PRELOAD", "LIBRARY_PATH", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH"),
            *("CC", "CXX", "CUDAHOSTCXX", "MAX_JOBS", "MALLOC_*", "GLIBC_TUNABLES", "TCMALLOC_*"),
        ),
    ),
    Group(
        "GPUs: CUDA, ROCm, their drivers and how they talk to each other",
        (
            *("CUDA_*", "NVIDIA_*", "CUDNN_*", "CUBLAS_*", "NCCL_*", "GLOO_*", "UCX_*", "FI_*"),
            *("ROCM_*", "ROCR_*", "HIP_*", "HSA_*", "TORCH_*", "PYTORCH_*", "TORCHINDUCTOR_*", "TRITON_*"),
        ),
    ),
    Group(
        "which kernels and how many threads compute on a CPU",
        (
            *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "BLIS_*", "ONEDNN_*", "DNNL_*"),
            *("ATEN_CPU_CAPABILITY", "TOKENIZERS_PARALLELISM", "DS_ACCELERATOR"),
        ),
    ),
    Group("tuning of vLLM", ("VLLM_CPU_*", "VLLM_USE_*", "VLLM_ATTENTION_BACKEND", "VLLM_LOGGING_LEVEL")),
    Group(
        "caches of libraries, which `modelry up` puts below the home, and that they send nothing home",
        (
            *("XDG_CACHE_HOME", "HF_HOME", "VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT", "VLLM_NO_USAGE_STATS"),
            *("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"),
        ),
    ),
    Group(
        "proxies, for foreign hosts alone: this machine and the installation's own addresses are added to `no_proxy`",
        ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    ),
    Group("certificates of foreign hosts; one that is not there is left out", ("SSL_CERT_FILE", "SSL_CERT_DIR")),
    Group(
        "the hub or its mirror",
        (
            *("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"),
            *("HF_HUB_DISABLE_XET", "HF_XET_*"),
        ),
    ),
    Group("settings: a program is told what it must know in its spec", ("MODELRY_*",), programs=False),
    Group("the hub's token, which the registry hands to the program that fetches", ("HF_TOKEN",), programs=False),
    Group(
        "what the collector of traces and metrics wants beside `otlp_endpoint`",
        ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_RESOURCE_ATTRIBUTES"),
        programs=False,
    ),
)
# Set for every program of ours, whatever is set outside: `python -m` does not look into the current folder, files and
# output are UTF-8 under every locale, and a line is in its log as soon as it is written.
SET_ALWAYS = {"PYTHONSAFEPATH": "1", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}

NAMELESS = {"USER": "modelry", "LOGNAME": "modelry"}
"""Set where nothing says who it is: libraries ask for the user's name, and a user id of a container has none."""


def inherited(environ: Mapping[str, str], *, services: bool = False, own_hosts: Collection[str] = ()) -> dict[str, str]:
    """Return the part of an environment that passes, with what every program of ours has.

    Args:
        services: for a service or the gateway, which see settings too.
        own_hosts: hosts of the installation beside loopback, which are reached without a proxy.
    """
    names = [name for group in INHERITED if group.programs or services for name in group.names]
    result = {name: value for name, value in environ.items() if any(_fits(name, one) for one in names)}
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if not os.path.exists(result.get(name, "")):
            result.pop(name, None)
    if len(os.fsencode(result.get("TMPDIR", ""))) > LONGEST_TEMPORARY_BYTES:
        del result["TMPDIR"]
    direct = without_proxy(environ, own_hosts)
    return {**NAMELESS, **result, "no_proxy": direct, "NO_PROXY": direct, **SET_ALWAYS}


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def without_proxy(environ: Mapping[str, str], own_hosts: Collection[str] = ()) -> str:
    """Return what is reached without a proxy: what the user says, loopback, and the installation's own hosts."""
    said = [part.strip() for part in (environ.get("no_proxy") or environ.get("NO_PROXY") or "").split(",")]
    if "*" in said:  # urllib knows it alone only
        return "*"
    return ",".join(dict.fromkeys(part for part in (*said, *LOOPBACK_NAMES, *own_hosts) if part))
