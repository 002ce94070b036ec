"""What a deployment becomes: mode, engine, memory, adapters; and what is refused."""

from __future__ import annotations

import pytest

from services.chassis.engines import merge_only
from services.chassis.errors import Invalid
from services.serving.domain.entities import Engine, Mode
from services.serving.domain.planning import (
    GIB,
    RUNTIME_BYTES,
    adapter_of,
    choose_engine,
    choose_mode,
    cores_of,
    covering_rank,
    memory_terms,
)
from tests.unit.serving.made import ADAPTER, FULL, adapter, deployment

pytestmark = pytest.mark.unit


def test_auto_merges_what_serves_alone_and_attaches_what_shares() -> None:
    assert choose_mode(Mode.AUTO, True, None) == (Mode.MERGED, False)
    assert choose_mode(Mode.AUTO, True, True) == (Mode.ATTACHED, True)
    assert choose_mode(Mode.ATTACHED, True, None) == (Mode.ATTACHED, False)
    assert choose_mode(Mode.AUTO, False, None) == (Mode.NONE, True)
    assert choose_mode(Mode.AUTO, False, False) == (Mode.NONE, False)


def test_a_mode_that_cannot_be_is_refused_with_its_field() -> None:
    with pytest.raises(Invalid) as merged:
        choose_mode(Mode.MERGED, True, True)
    assert merged.value.field == "deployment.accepts_adapters"
    with pytest.raises(Invalid) as whole:
        choose_mode(Mode.ATTACHED, False, None)
    assert whole.value.field == "deployment.adapter_mode"


def test_the_context_is_the_models_up_to_the_longest_unless_one_is_asked_for() -> None:
    assert choose_engine(Engine(), FULL, 2048).max_model_length == 2048
    assert choose_engine(Engine(), FULL, 100_000).max_model_length == FULL.context_length
    assert choose_engine(Engine(max_model_length=4096), FULL, 2048).max_model_length == 4096
    assert choose_engine(Engine(), FULL, 2048).kv_cache_gib == 1.0
    with pytest.raises(Invalid) as refused:
        choose_engine(Engine(max_model_length=8193), FULL, 2048)
    assert refused.value.field == "deployment.engine.max_model_length"


def test_cores_are_shared_out_and_one_at_least() -> None:
    assert [cores_of(0, 8, count) for count in (0, 1, 2, 3, 16)] == [8, 8, 4, 2, 1]
    assert cores_of(3, 8, 4) == 3


def test_ranks_are_covered_by_the_engines_next_one() -> None:
    assert [covering_rank(rank) for rank in (1, 8, 9, 64, 65, 300)] == [8, 8, 16, 64, 128, 320]
    with pytest.raises(Invalid):
        covering_rank(513)


def test_memory_is_weights_keys_slots_activations_and_processes() -> None:
    terms = memory_terms(FULL, Engine(max_model_length=2048, kv_cache_gib=1.0), True, 64, 4)
    sizes = [term.size_bytes for term in terms]
    # 135M parameters of 2 bytes; slots: 4 x 30 layers x 7 projections x (in + out of 576) x rank 64 x 2 bytes.
    assert sizes[0] == 270_000_000 and sizes[1] == GIB and sizes[-1] == RUNTIME_BYTES
    assert sizes[3] == 4 * 30 * 7 * 2 * 576 * 64 * 2
    without = memory_terms(FULL, Engine(max_model_length=2048, kv_cache_gib=1.0), False, 64, 4)
    assert len(without) == len(terms) - 1


def test_the_space_for_keys_is_told_in_tokens() -> None:
    terms = memory_terms(FULL, Engine(max_model_length=2048, kv_cache_gib=1.0), False, 64, 4)
    # Keys and values of 30 layers, 3 heads of 64, 2 bytes each: 23,040 bytes a token.
    assert f"room for {GIB // (2 * 30 * 3 * 64 * 2)} tokens" in terms[1].what


def test_dora_whole_modules_and_biases_are_merged_only() -> None:
    assert merge_only({"bias": "none", "modules_to_save": None}) == ""
    for config in ({"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}):
        assert merge_only(config)


def test_an_adapter_is_called_by_its_name_and_the_own_one_by_the_deployments() -> None:
    assert adapter_of(deployment(), ADAPTER, {}, 64, 4).engine_name == ADAPTER.fine_tuned_name
    own = adapter_of(deployment(model_version_id="mv-tuned"), ADAPTER, {}, 64, 4)
    assert (own.own, own.engine_name) == (True, "help")


def test_an_adapter_that_cannot_be_attached_says_why_and_has_no_name_at_the_engine() -> None:
    full = deployment(adapters=tuple(adapter(model_version_id=f"mv-{n}") for n in range(4)))
    for refused in (
        adapter_of(deployment(), ADAPTER, {"use_dora": True}, 64, 4),
        adapter_of(deployment(), ADAPTER, {}, 4, 4),
        adapter_of(full, ADAPTER, {}, 64, 4),
    ):
        assert refused.cause[0].isupper() and refused.cause.endswith(".")
        assert refused.engine_name == "" and not refused.ready
