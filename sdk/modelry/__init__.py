"""Modelry: the client library (typed stubs, `Client`, the command line)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelry.client import Client, ModelryError

__all__ = ["Client", "ModelryError"]


def __getattr__(name: str) -> object:
    """Import the client when it is first asked for: services use the stubs alone."""
    if name in __all__:
        from modelry import client

        return getattr(client, name)
    raise AttributeError(f"module 'modelry' has no attribute {name!r}")
