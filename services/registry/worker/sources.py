"""Where a model may come from: a folder of this machine, a folder of a bucket, a package with GGUF weights, the hub."""

import importlib.util
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from services.chassis.errors import Invalid, NotFound, Unavailable
from services.chassis.objects import ObjectStore, folder_prefix
from services.chassis.paths import inside
from services.registry.preparation import ModelSource

WANTED = (".json", ".safetensors", ".txt", ".model", ".jinja", ".tiktoken")
LARGEST_BYTES = 1 << 40
MOST_OBJECTS = 10_000


def fetch(source: ModelSource, target: Path) -> None:
    """Put the files of a model into a folder. Raises: Unavailable, NotFound, Invalid."""
    kinds: dict[str, Callable[[ModelSource, Path], None]] = {
        "directory": _from_directory,
        "object": _from_bucket,
        "gguf": _from_package,
        "hub": _from_hub,
    }
    kinds[source.kind](source, target)


def _from_directory(source: ModelSource, target: Path) -> None:
    folder = Path(source.path)
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder.name!r}.", reason="NO_SOURCE")
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name.endswith(WANTED):
            shutil.copyfile(path, target / path.name)


def _from_bucket(source: ModelSource, target: Path) -> None:
    assert source.access is not None, "a source in a bucket has keys"
    store = ObjectStore(source.access)
    prefix = folder_prefix(source.prefix)
    objects = list(islice(store.list(source.bucket, prefix), MOST_OBJECTS + 1))
    if len(objects) > MOST_OBJECTS:
        message = f"There are more than {MOST_OBJECTS} objects under {source.bucket}/{prefix}."
        raise Invalid(message, field="source.prefix", reason="MODEL_TOO_LARGE")
    if not objects:
        raise Invalid(f"Nothing lies under {source.bucket}/{prefix}.", field="source.prefix", reason="NO_SOURCE")
    if sum(info.size for info in objects) > LARGEST_BYTES:
        raise Invalid("The folder is over 1 TiB.", field="source.prefix", reason="MODEL_TOO_LARGE")
    for info in objects:
        name = info.key.removeprefix(prefix)
        if "/" not in name and name.endswith(WANTED):
            store.download_file(source.bucket, info.key, inside(target, name))


def _from_package(source: ModelSource, target: Path) -> None:
    """Turn the weights that a Python package ships as GGUF into bfloat16 safetensors."""
    spec = importlib.util.find_spec(source.package)
    if spec is None or spec.origin is None:
        raise Unavailable(f"The package {source.package} is not installed.", reason="NO_SOURCE")
    folder = Path(spec.origin).parent
    if not (folder / source.file).is_file():
        raise Unavailable(f"The package {source.package} has no {source.file}.", reason="NO_SOURCE")

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    name = source.file
    config = GgufConfig(gguf_file=name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, quantization_config=config)
    model.to(torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(target)


def _from_hub(source: ModelSource, target: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        patterns = [f"*{ending}" for ending in WANTED]
        snapshot_download(
            source.repository,
            local_dir=target,
            allow_patterns=patterns,
            etag_timeout=10,
            token=source.token or None,
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise Unavailable(f"The hub cannot be reached for {source.repository}.", reason="NO_SOURCE") from error
    shutil.rmtree(target / ".cache", ignore_errors=True)
