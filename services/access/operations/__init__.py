"""The use cases of access: load, call one rule, save, emit, commit."""
