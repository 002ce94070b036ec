"""The use cases of evaluation: one function each. Nothing here knows gRPC."""
