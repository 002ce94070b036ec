"""Modelry: the client library (stubs, Client, CLI)."""
