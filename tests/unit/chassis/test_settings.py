"""Where a setting is looked up, in which order, and how a wrong one stops the start."""

from pathlib import Path

import pytest
from pydantic import Field, SecretStr
from sqlalchemy.engine import make_url

from services.chassis.settings import Settings, StartError, explain, load

pytestmark = pytest.mark.unit


class Toy(Settings):
    parallel_jobs: int = Field(1, ge=1)
    api_secret: SecretStr = SecretStr("")
    tags: tuple[str, ...] = ()
    training_address: str = ""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    return tmp_path


def toy(home: Path, **environ: str) -> Toy:
    return load(Toy, "training", {"MODELRY_HOME": str(home), **environ})


def test_the_nearest_place_wins(home: Path) -> None:
    assert toy(home).parallel_jobs == 1
    (home / "modelry.toml").write_text("parallel_jobs = 2\n")
    assert toy(home).parallel_jobs == 2
    (home / "modelry.toml").write_text("parallel_jobs = 2\n[training]\nparallel_jobs = 3\n")
    assert toy(home).parallel_jobs == 3
    assert toy(home, MODELRY_PARALLEL_JOBS="4").parallel_jobs == 4
    assert toy(home, MODELRY_PARALLEL_JOBS="4", MODELRY_TRAINING_PARALLEL_JOBS="5").parallel_jobs == 5


def test_another_services_section_does_not_count(home: Path) -> None:
    (home / "modelry.toml").write_text("[registry]\nparallel_jobs = 3\nanything = 1\n")
    assert toy(home).parallel_jobs == 1


def test_a_secret_comes_from_its_file_and_is_never_shown(home: Path) -> None:
    (home / "secrets" / "api_secret").write_text("hunter2\n")
    (home / "secrets" / "parallel_jobs").write_text("9")
    settings = toy(home)
    assert settings.api_secret.get_secret_value() == "hunter2"
    assert settings.parallel_jobs == 1
    assert "hunter2" not in repr(settings)
    shown = {found.name: found for found in explain(Toy, "training", {"MODELRY_HOME": str(home)})}
    assert shown["api_secret"].value == "********"
    assert shown["api_secret"].source == str(home / "secrets" / "api_secret")
    assert shown["parallel_jobs"].source == "default"


def test_the_default_database_is_the_services_file_in_the_home(home: Path) -> None:
    assert toy(home).database_url == f"sqlite:///{home}/data/training.db"
    assert toy(home, MODELRY_DATABASE_URL="postgresql://db/x").database_url == "postgresql://db/x"


def test_a_list_is_json_in_the_environment(home: Path) -> None:
    assert toy(home, MODELRY_TAGS='["a", "b"]').tags == ("a", "b")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"MODELRY_TRAINING_PARALLEL_JOBS": "none"}, "MODELRY_TRAINING_PARALLEL_JOBS"),
        ({"MODELRY_LEASE_SECONDS": "-1"}, "MODELRY_LEASE_SECONDS"),
        ({"MODELRY_TRAINING_LEESE_SECONDS": "1"}, "MODELRY_TRAINING_LEESE_SECONDS"),
        ({"MODELRY_LOG_LEVEL": "loud"}, "MODELRY_LOG_LEVEL"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_its_name(
    environ: dict[str, str], named: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StartError) as stop:
        toy(home, **environ)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert named in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[training]\nparallel_jobs = 0\n", "[training] parallel_jobs in"),
        ("[training]\nparalel_jobs = 1\n", "'paralel_jobs'"),
        ("[training\n", "modelry.toml cannot be read"),
    ],
)
def test_a_wrong_file_stops_the_start_with_the_place(
    text: str, named: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "modelry.toml").write_text(text)
    with pytest.raises(StartError):
        toy(home)
    assert named in capsys.readouterr().err


def test_a_shared_setting_may_start_with_a_services_name(home: Path) -> None:
    assert toy(home, MODELRY_TRAINING_ADDRESS="127.0.0.1:9").training_address == "127.0.0.1:9"


@pytest.mark.parametrize("name", ["模型 平台", "what?", "50%20", "a#b", "back\\slash", "a:b@c"])
def test_the_database_lies_below_the_home_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    found = load(Settings, "training", {"MODELRY_HOME": str(tmp_path / name)})
    assert make_url(found.database_url).database == str(tmp_path / name / "data" / "training.db")
