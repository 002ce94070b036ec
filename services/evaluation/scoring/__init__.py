"""Scores of texts against references: pure functions, no torch, no I/O but the shipped stop-word lists.

The worker scores with it after generation, and the service can score again from stored samples.
"""
