"""The use cases of access: load, call one rule, save, emit, commit."""

from services.access.store import AccessUnit

__all__ = ["AccessUnit"]
