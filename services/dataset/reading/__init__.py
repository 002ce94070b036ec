"""Streamed readers of training and evaluation data: source bytes in, checked canonical rows out.

Nothing here knows gRPC, the database or the object store; memory stays constant whatever the size of the source.
"""
