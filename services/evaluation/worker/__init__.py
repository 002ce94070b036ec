"""The evaluation worker: a program of its own (`python -m services.evaluation.worker FOLDER`). Torch lives here."""
