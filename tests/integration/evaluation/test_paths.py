"""Keys of a benchmark's bucket that lead out of its folder."""

from pathlib import Path

import pytest

from services.chassis.errors import Invalid
from services.chassis.objects import ObjectStore
from services.evaluation.work_spec import PresetTask
from services.evaluation.worker.tasks import load_preset
from tests.hostile_store import hostile_store

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

FOLDER = "/modelry-outside"
"""A folder that is not there: the loader takes keys of four parts at most, too few for a temporary one."""


@pytest.mark.parametrize("outside", [FOLDER, "../outside"])
def test_an_evaluation_writes_nothing_outside_of_its_folder(tmp_path: Path, outside: str) -> None:
    task = PresetTask("mmlu", "mmlu", 0, "test", (), 0, "system", "keys", "bench")
    with hostile_store() as server:
        server.keys = (f"bench/{outside}/test/a.csv",)
        with pytest.raises(Invalid) as caught:
            load_preset(task, ObjectStore(server.access, tries=1), tmp_path / "folder")
    assert caught.value.reason == "INVALID_PATH"
    assert not (tmp_path / "outside").exists() and not Path(FOLDER).exists()
