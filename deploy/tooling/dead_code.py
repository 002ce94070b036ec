"""Find code that nothing uses, with vulture: `make dead-code`. Ends with 1 when there is some.

What only tests use counts as unused. The list below is for names that a library or the interpreter looks up.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

from vulture import Vulture  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "sdk")]

from deploy.tooling.sources import module_of, python_files  # noqa: E402

# Name -> who uses it.
USED_BY_NAME = {
    "__getattr__": "the interpreter, for a module's late imports",
    "FP32": "ComputeType is read from its value",
    "CONSTANT": "Schedule is read from its value",
    "LINEAR": "Schedule is read from its value",
    "DISABLED": "an enumeration that is read from its value",
    "VIEWER": "Role is read from its number",
    "DEVELOPER": "Role is read from its number",
    "acting_as": "tests call as somebody",
    "in_state": "tests ask a fake",
    "add_project": "tests prepare a fake",
    "cpus_held": "tests look at what is held",
    "memory_mb_held": "tests look at what is held",
    "backlog": "tests wait for the outbox",
    "health_url": "tests wait for their NATS",
    "imports_of": "tests of layers and dependencies",
    "cache_ok": "SQLAlchemy, of a type",
    "process_bind_param": "SQLAlchemy, of a type",
    "process_result_value": "SQLAlchemy, of a type",
    "fetchmany": "SQLAlchemy, of a cursor",
    "intercept_unary_unary": "grpc, of an interceptor",
    "intercept_unary_stream": "grpc, of an interceptor",
    "intercept_stream_unary": "grpc, of an interceptor",
    "intercept_stream_stream": "grpc, of an interceptor",
    "model_config": "pydantic, of a model",
    "_address": "pydantic, of a setting",
    "dataset_address": "the address of a service is read by its name",
    "training_address": "the address of a service is read by its name",
    "registry_address": "the address of a service is read by its name",
    "evaluation_address": "the address of a service is read by its name",
    "serving_address": "the address of a service is read by its name",
    "access_address": "the address of a service is read by its name",
    "seekable": "io, of a raw stream",
    "pool_classes_by_scheme": "urllib3, of a pool manager",
    "ConnectionCls": "urllib3, of a pool",
    "response_class": "http.client, of a connection",
    "encode_special_tokens": "tokenizers, of a tokenizer",
    "attention_mask": "transformers passes it to an attention function by name",
    "generation_config": "transformers, of a model that is saved",
    "FREQ": "jieba, of a tokenizer",
    "initialized": "jieba, of a tokenizer",
    "PreTrainedTokenizerBase": "named in quoted annotations",
    "add_registered_method_handlers": "called by generated code",
    "key_claimable": "shown in a message of its fields",
    "previous_state": "shown in a message of its fields",
    "sample_count": "stored with the row of an evaluation",
    "verify_time": "shown in a message of its fields",
    "generated_tokens": "compared as one of all counters",
    "cache_used": "compared as one of all counters",
    "SecretRequired": "vLLM is told its name",
    "display": "shown in a message of its fields",
    "languages": "shown in a message of its fields",
    "set_by": "shown in a message of its fields",
    "language": "shown by the mapper of messages",
    "repetition_penalty": "given to the engine with its dataclass",
    "top_p": "given to the engine with its dataclass",
    "messages_json": "shown in a message by its name",
    "tools_json": "shown in a message by its name",
}


def main() -> int:
    """Print what nothing uses, and excuses that are not needed; 1 when something is unused."""
    files = [path for path in python_files("services", "gateway", "deploy", "sdk") if not is_entry(path)]
    result = unused([str(path) for path in files], rpc_names())
    excused = {item.name for item in result} & USED_BY_NAME.keys()
    dead = [item.get_report() for item in result if item.name not in USED_BY_NAME]
    stale = [f"deploy/tooling/dead_code.py: {name} needs no excuse" for name in USED_BY_NAME if name not in excused]
    for line in (*dead, *stale):
        print(line.replace(f"{ROOT}/", ""), file=sys.stderr)
    return 1 if dead else 0


def is_entry(path: Path) -> bool:
    """Migrations are called by Alembic, and `testing*.py` by tests."""
    return "migrations" in path.parts or path.name.startswith("testing")


def rpc_names() -> list[str]:
    """Return the names of all RPCs: grpc calls a servicer's methods."""
    stubs = sorted((ROOT / "sdk").glob("modelry/*/v1/*_pb2.py"))
    modules = (importlib.import_module(module_of(path)) for path in stubs)
    services = (service for module in modules for service in module.DESCRIPTOR.services_by_name.values())
    return sorted({method.name for service in services for method in service.methods})


def unused(paths: list[str], ignored: list[str]) -> list[Any]:
    """Return what vulture finds unused in files, except some names."""
    scan = Vulture(ignore_names=ignored)
    scan.scavenge(paths)
    return list(scan.get_unused_code(min_confidence=60))


if __name__ == "__main__":
    raise SystemExit(main())
