"""One fake beside each client, in memory, for tests: each passes the contract suite that its client passes.

A fake is a subclass of its client, so that the type checker compares their methods. What a test prepares and what it
looks at afterwards are plain attributes.
"""

from services.clients.fakes.billing import FakeBilling
from services.clients.fakes.credentials import FakeCredentials
from services.clients.fakes.dataset import FakeDatasets
from services.clients.fakes.registry import FakeRegistry
from services.clients.fakes.serving import FakeServing
from services.clients.fakes.training import FakeTraining

__all__ = [
    "FakeBilling",
    "FakeCredentials",
    "FakeDatasets",
    "FakeRegistry",
    "FakeServing",
    "FakeTraining",
]
