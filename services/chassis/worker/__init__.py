"""What worker programs of several stages share: the edge of a program, chat encoding, merging.

Only programs under ``services/*/worker`` import this package. Importing it loads neither torch nor transformers.
"""

from services.chassis.worker.chat import Inexpressible, describe_chat, encode_conversation, fingerprint, load_tokenizer
from services.chassis.worker.edge import FailureWords, log_to_stderr, run_attempt, run_program
from services.chassis.worker.merging import log_probabilities, mean_difference, merge

__all__ = [
    "FailureWords",
    "Inexpressible",
    "describe_chat",
    "encode_conversation",
    "fingerprint",
    "load_tokenizer",
    "log_probabilities",
    "log_to_stderr",
    "mean_difference",
    "merge",
    "run_attempt",
    "run_program",
]
