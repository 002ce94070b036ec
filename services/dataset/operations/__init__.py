"""The use cases of the dataset service: load, call one rule, save, emit, commit."""
