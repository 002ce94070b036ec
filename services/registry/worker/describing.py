"""Check that a folder is a model that can be trained and served, and say what it is."""

import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from services.chassis.errors import Invalid
from services.chassis.worker import Inexpressible, describe_chat, load_tokenizer
from services.registry.preparation import ModelFacts

INDEX = "model.safetensors.index.json"
DESCRIPTION = "modelry.json"
"""What is written beside the weights: the fingerprint and token ids that serving compares with its engine's."""


def describe(folder: Path) -> ModelFacts:
    """Return the facts of a checked model. Raises: Invalid: it is none; names what is missing."""
    config = _read_config(folder)
    tensors = _read_tensors(folder)
    shape, parameters, bytes_per_value = _measure(config, tensors)
    try:
        tokenizer = load_tokenizer(folder)
    except (OSError, ValueError, KeyError) as error:
        raise _refuse("the tokenizer cannot be loaded (tokenizer.json, tokenizer_config.json)") from error
    if not tokenizer.chat_template:
        raise _refuse("the tokenizer has no chat template: an instruct model is needed")
    try:
        chat = describe_chat(tokenizer)
    except Inexpressible as error:
        raise _refuse(str(error)) from error
    (folder / DESCRIPTION).write_text(json.dumps({"format": 1, **chat}, ensure_ascii=False), "utf-8")
    return ModelFacts(
        architecture=config["architectures"][0],
        parameter_count=parameters,
        context_length=int(config.get("max_position_embeddings", 2048)),
        shape={**shape, "bytes_per_value": bytes_per_value},
        chat_fingerprint=chat["fingerprint"],
    )


def _refuse(what: str) -> Invalid:
    return Invalid(f"This is no model that can be used: {what}.", field="source.prefix", reason="INVALID_MODEL")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise _refuse("there is no config.json")
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise _refuse("config.json is not valid JSON") from error
    if not isinstance(config, dict) or not config.get("architectures"):
        raise _refuse("config.json names no architecture")
    if config.get("auto_map"):
        raise _refuse("config.json asks for code of its own (auto_map), which is never run")
    if not str(config["architectures"][0]).endswith("ForCausalLM"):
        raise _refuse(f"{config['architectures'][0]} is no causal language model")
    return config


def _read_tensors(folder: Path) -> dict[str, tuple[list[int], str]]:
    """Return name -> (shape, dtype) of every tensor; the index must be complete."""
    index = folder / INDEX
    weights: dict[str, str] = {}
    if index.is_file():
        try:
            weights = json.loads(index.read_text("utf-8"))["weight_map"]
        except (ValueError, KeyError) as error:
            raise _refuse(f"{INDEX} cannot be read") from error
    files = sorted(set(weights.values())) or ["model.safetensors"]
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise _refuse(f"missing weights: {', '.join(missing[:5])} (safetensors only)")
    tensors: dict[str, tuple[list[int], str]] = {}
    for name in files:
        try:
            with safe_open(folder / name, framework="numpy") as file:
                for key in file.keys():  # noqa: SIM118 - no mapping
                    part = file.get_slice(key)
                    tensors[key] = (list(part.get_shape()), str(part.get_dtype()))
        except (SafetensorError, OSError) as error:
            raise _refuse(f"{name} is damaged") from error
    absent = sorted(set(weights) - set(tensors))
    if absent:
        raise _refuse(f"the index names tensors that no file has: {', '.join(absent[:3])}")
    return tensors


def _measure(config: dict[str, Any], tensors: dict[str, tuple[list[int], str]]) -> tuple[dict[str, int], int, int]:
    """Return what the memory estimate needs, the parameters, and bytes per value."""
    heads = int(config.get("num_attention_heads") or 1)
    hidden = int(config.get("hidden_size") or 1)
    shape = {
        "layers": int(config.get("num_hidden_layers") or 1),
        "kv_heads": int(config.get("num_key_value_heads") or heads),
        "head_dim": int(config.get("head_dim") or hidden // heads),
        "hidden_size": hidden,
    }
    parameters = sum(math.prod(dimensions) for dimensions, _ in tensors.values())
    kinds = {dtype for _, dtype in tensors.values()}
    return shape, parameters, 4 if "F32" in kinds else 2
