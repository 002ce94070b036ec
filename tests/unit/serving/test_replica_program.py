"""What the program that becomes an engine sets before it does."""

from pathlib import Path
from typing import Any

import pytest

from services.chassis.engines import bound_to_cores
from services.serving.worker.doors import SecretRequired
from services.serving.worker.engine import architectures_of

pytestmark = pytest.mark.unit


def test_the_engine_is_bound_to_the_cores_of_the_launcher() -> None:
    found = bound_to_cores({"MODELRY_CPUS": "0-1", "OMP_NUM_THREADS": "2", "HOME": "/h"})
    assert found == {"MODELRY_CPUS": "0-1", "VLLM_CPU_OMP_THREADS_BIND": "0-1", "HOME": "/h"}


def test_without_cores_nothing_is_bound() -> None:
    assert bound_to_cores({"OMP_NUM_THREADS": "2"}) == {"OMP_NUM_THREADS": "2"}


def test_a_binding_that_an_operator_set_stays() -> None:
    found = bound_to_cores({"MODELRY_CPUS": "0-1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"})
    assert found["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


def test_the_engine_reads_which_classes_its_model_needs(tmp_path: Path) -> None:
    arguments = ["--port", "1", "--model", str(tmp_path)]
    assert architectures_of(arguments) == []  # no config.json
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    assert architectures_of(arguments) == ["LlamaForCausalLM"]
    assert architectures_of(["--model"]) == []
    for wrong in ("[]", "{", '{"architectures": 3}', '{"architectures": [1]}'):
        (tmp_path / "config.json").write_text(wrong)
        assert architectures_of(arguments) == []


async def sent(scope: dict[str, Any]) -> list[dict[str, Any]]:
    """What a server behind the door and the door itself send on one connection."""
    messages: list[Any] = []

    async def server(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "passed"})

    async def receive() -> Any:
        raise AssertionError("a refused body is not read")

    async def send(message: Any) -> None:
        messages.append(message)

    await SecretRequired(server)(scope, receive, send)
    return messages


@pytest.mark.parametrize("path", ["/invocations", "/tokenize", "/docs", "/openapi.json", "/metrics", "/health", "/"])
async def test_no_path_of_an_engine_is_open_without_its_secret(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "s3cret")
    right = (b"authorization", b"Bearer s3cret")
    wrong = [[], [(b"authorization", b"Bearer other")], [(b"authorization", b"s3cret")], [right, right]]
    for headers in wrong:
        refused = await sent({"type": "http", "path": path, "headers": headers})
        assert refused[0]["status"] == 401
        assert (await sent({"type": "websocket", "path": path, "headers": headers}))[0]["type"] == "websocket.close"
    assert await sent({"type": "http", "path": path, "headers": [right]}) == [{"type": "passed"}]
