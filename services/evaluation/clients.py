"""The other services that evaluation asks."""

from dataclasses import dataclass

from services.clients.jobs import JobClients
from services.clients.serving import ServingClient
from services.clients.training import TrainingClient


@dataclass(frozen=True)
class Clients(JobClients):
    """One client for each."""

    price_item = "evaluation-minute"
    training: TrainingClient
    serving: ServingClient
