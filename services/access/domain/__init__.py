"""The rules of access: who may, and what it costs. Pure: no I/O, no clock, no randomness."""
