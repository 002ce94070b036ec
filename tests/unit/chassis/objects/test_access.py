"""How a store is reached: a plain value, and a library that is loaded only when it is used."""

import subprocess
import sys

import pytest

from services.chassis.objects import StoreAccess
from services.chassis.settings import Settings

pytestmark = pytest.mark.unit


def test_importing_the_store_loads_no_s3_library() -> None:
    program = (
        "import sys; from services.chassis.objects import ObjectStore, StoreAccess;"
        "ObjectStore(StoreAccess('http://127.0.0.1:9', 'k', 's'));"
        "print(sorted({'boto3', 'botocore', 'urllib3'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_installations_store_is_what_the_settings_say_and_its_text_has_no_secret() -> None:
    settings = Settings(objects_endpoint="http://store", objects_access_key="key", objects_secret_key="hidden")  # type: ignore[arg-type]
    access = StoreAccess.of_settings(settings)
    assert access == StoreAccess("http://store", "key", "hidden", "us-east-1")
    assert "hidden" not in repr(access)
    assert StoreAccess.from_json(access.to_json()) == access
