"""Stubs from protos of the test's own, in folders of the test's own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.tooling import protos

pytestmark = pytest.mark.integration

COMMON = """syntax = "proto3";
package modelry.common.v1;
// A sum.
message Money {
  // Decimal text.
  string amount = 1;
}
"""
DEMO = """syntax = "proto3";
package modelry.demo.v1;
import "google/api/annotations.proto";
import "modelry/common/v1/common.proto";
// Things.
service DemoService {
  // Returns one thing.
  rpc GetThing(GetThingRequest) returns (Thing) {
    option (google.api.http) = {get: "/api/v1/things/{thing}"};
  }
}
// A thing.
message Thing {
  // Its price.
  modelry.common.v1.Money price = 1;
}
// Asks for a thing.
message GetThingRequest {
  // Its id.
  string thing = 1;
}
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for area, text in (("common", COMMON), ("demo", DEMO)):
        path = tmp_path / "protos" / "modelry" / area / "v1" / f"{area}.proto"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (tmp_path / "sdk" / "modelry").mkdir(parents=True)
    shutil.copy(protos.BUF_CONFIG, tmp_path / "protos" / "buf.yaml")
    for name, path in (("ROOT", "."), ("PROTOS", "protos"), ("SDK", "sdk")):
        monkeypatch.setattr(protos, name, tmp_path / path)
    monkeypatch.setattr(protos, "BUF_CONFIG", tmp_path / "protos" / "buf.yaml")
    monkeypatch.setattr(protos, "RELEASED", tmp_path / "protos" / "released.binpb")
    return tmp_path


def edit(tree: Path, old: str, new: str) -> None:
    path = tree / "protos" / "modelry" / "demo" / "v1" / "demo.proto"
    path.write_text(path.read_text().replace(old, new))


def test_stubs_are_importable_typed_and_current(tree: Path) -> None:
    assert protos.main([]) == 0
    assert protos.main(["--check"]) == 0
    code = "from modelry.demo.v1 import demo_pb2, demo_pb2_grpc; print(demo_pb2.Thing.DESCRIPTOR.full_name)"
    shown = subprocess.run([sys.executable, "-c", code], cwd=tree / "sdk", capture_output=True, text=True, check=True)
    assert shown.stdout == "modelry.demo.v1.Thing\n"
    assert "class Thing" in (tree / "sdk" / "modelry" / "demo" / "v1" / "demo_pb2.pyi").read_text()


def test_stale_and_orphaned_stubs_are_named(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protos.main([])
    edit(tree, "string thing = 1;", "string thing = 1;\n  // More.\n  string more = 2;")
    assert protos.main(["--check"]) == 1
    assert "stale stub: sdk/modelry/demo/v1/demo_pb2.py" in capsys.readouterr().err
    (tree / "protos" / "modelry" / "demo" / "v1" / "demo.proto").unlink()
    assert protos.main(["--check"]) == 1
    protos.main([])
    assert protos.main(["--check"]) == 0
    assert not (tree / "sdk" / "modelry" / "demo" / "v1" / "demo_pb2.py").exists()


def test_lint_wants_a_comment_on_everything(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert protos.main(["--lint"]) == 0
    edit(tree, "  // Its id.\n", "")
    assert protos.main(["--lint"]) != 0
    assert 'Field "thing" should have a non-empty comment' in capfd.readouterr().out


def test_a_change_that_breaks_users_of_the_release_is_refused(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert protos.main(["--release"]) == 0
    assert protos.main(["--lint"]) == 0
    edit(tree, "string thing = 1;", "string thing = 2;")
    assert protos.main(["--lint"]) != 0
    assert "was deleted" in capfd.readouterr().out
