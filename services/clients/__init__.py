"""Typed clients of the services' internal gRPC APIs, one module each, and where the services listen.

Import from the module (`from services.clients.registry import RegistryClient`): it loads the protos of that area alone.
"""
