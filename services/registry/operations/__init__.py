"""The use cases of the registry: load, call one rule, save, emit, commit."""
