"""How an engine is started, and when the gateways are known to know."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from services.serving.control.engine import arguments, choose_port, launch_spec
from services.serving.control.gateways import Gateways
from services.serving.domain.entities import Engine, Mode, ReplicaState
from services.serving.settings import ServingSettings
from tests.unit.serving.made import ADAPTER, deployment, replica

pytestmark = pytest.mark.unit

STARTED = replica(ReplicaState.PENDING)
MODEL = Path("/models/tiny")


def test_an_engine_that_takes_adapters_is_told_so(tmp_path: Path) -> None:
    settings = ServingSettings(home=tmp_path)
    attached = deployment(facts=ADAPTER, effective_mode=Mode.ATTACHED)
    found = arguments(attached, STARTED, MODEL, settings)
    assert found[found.index("--max-lora-rank") + 1] == "64"
    assert found[found.index("--served-model-name") + 1] == "mv-base"
    merged = arguments(deployment(effective_mode=Mode.MERGED, accepts_adapters=False), STARTED, MODEL, settings)
    assert "--enable-lora" not in merged
    assert merged[merged.index("--served-model-name") + 1] == "help"


def test_an_engine_is_compiled_only_when_it_is_asked_for(tmp_path: Path) -> None:
    settings = ServingSettings(home=tmp_path)
    assert "--enforce-eager" in arguments(deployment(), STARTED, MODEL, settings)
    compiled = deployment(engine=Engine(max_model_length=64, kv_cache_gib=1, compile=True))
    assert "--enforce-eager" not in arguments(compiled, STARTED, MODEL, settings)


def test_an_engine_gets_whole_gib_and_its_key_by_environment(tmp_path: Path) -> None:
    settings = ServingSettings(home=tmp_path)
    wanted = deployment(engine=Engine(max_model_length=64, kv_cache_gib=1.5))
    spec = launch_spec(wanted, STARTED, MODEL, "s3cret", settings, gpus=0)
    assert (spec.id, spec.folder) == (STARTED.id, tmp_path / "work" / STARTED.id)
    assert (spec.env["VLLM_API_KEY"], spec.env["VLLM_CPU_KVCACHE_SPACE"]) == ("s3cret", "2")
    assert not any("s3cret" in argument for argument in spec.argv)


def test_an_engine_checks_a_schema_with_what_compiles_it_and_every_path_wants_its_secret(tmp_path: Path) -> None:
    found = arguments(deployment(), STARTED, MODEL, ServingSettings(home=tmp_path))
    assert found[found.index("--structured-outputs-config") + 1] == '{"backend": "xgrammar"}'
    module, _, name = found[found.index("--middleware") + 1].rpartition(".")
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("max_sequences", "gpus", "sequences", "choices"), [(0, 0, "256", "128"), (32, 1, "32", "16"), (0, 1, None, "128")]
)
def test_an_engine_is_started_with_the_bounds_that_the_gateway_checks(
    tmp_path: Path, max_sequences: int, gpus: int, sequences: str | None, choices: str
) -> None:
    wanted = deployment(engine=Engine(max_model_length=64, kv_cache_gib=1, max_sequences=max_sequences))
    spec = launch_spec(wanted, STARTED, MODEL, "s3cret", ServingSettings(home=tmp_path), gpus)
    told = dict(zip(spec.argv, spec.argv[1:], strict=False))
    assert (told.get("--max-num-seqs"), told["--max-logprobs"]) == (sequences, "20")
    assert spec.env["VLLM_MAX_N_SEQUENCES"] == choices


def test_no_setting_of_a_cpu_reaches_a_gpu(tmp_path: Path) -> None:
    spec = launch_spec(deployment(), STARTED, MODEL, "s3cret", ServingSettings(home=tmp_path), gpus=1)
    assert spec.gpus == 1
    assert not any(name.startswith("VLLM_CPU") for name in spec.env)


def test_a_port_of_another_replica_is_not_chosen() -> None:
    free = set(range(20_000, 20_200))
    assert choose_port(set(range(15_000, 32_000)) - free) in free


def test_a_route_is_known_when_every_living_gateway_has_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("services.serving.control.gateways.time.monotonic", lambda: clock[0])
    gateways = Gateways(gone_seconds=15)
    assert not gateways.know("dep-1", 1), "nobody listens yet"
    gateways._since = 100.0
    assert not gateways.know("dep-1", 1), "those that are there may not have spoken"
    clock[0] = 107.0
    assert gateways.know("dep-1", 1), "there is none"
    gateways.heard("modelry.gateway.a.alive", b'{"gateway": "a"}')
    gateways.heard("modelry.gateway.b.routes", b'{"deployment_id": "dep-1", "version": 2}')
    assert not gateways.know("dep-1", 1)
    gateways.heard("modelry.gateway.a.routes", b'{"deployment_id": "dep-1", "version": 1}')
    assert gateways.know("dep-1", 1) and not gateways.know("dep-1", 2)
    gateways.heard("modelry.gateway.b.alive", b"not json")
    clock[0] = 120.0
    gateways.heard("modelry.gateway.b.alive", b"{}")
    clock[0] = 123.0
    assert gateways.know("dep-1", 2), "a has been silent for too long"
