"""The other services that training asks."""

from services.clients.jobs import JobClients


class Clients(JobClients):
    """One client for each."""

    price_item = "training-minute"
