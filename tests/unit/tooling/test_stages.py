"""Every list of the services names the same ones: a new stage is in all of them."""

import pytest

from deploy.local import home
from deploy.tooling import sources
from modelry import api_methods
from services.clients.settings import ServiceAddresses

pytestmark = pytest.mark.unit


def test_every_list_names_the_same_services() -> None:
    folders = {path.parent.name for path in (sources.ROOT / "services").glob("*/__main__.py")}
    addresses = {
        name.removesuffix("_address") for name in ServiceAddresses.__annotations__ if name.endswith("_address")
    }
    lists = (sources.STAGES, home.STAGES, api_methods.SERVICES, addresses)
    assert [set(names) for names in lists] == [folders] * len(lists)
