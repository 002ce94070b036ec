"""The training worker: a program of its own that runs one attempt of one job."""
