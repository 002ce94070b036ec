"""What worker programs of several stages share: chat encoding, model loading, the table of accelerators.

Only programs under ``services/*/worker`` import this package: it may import torch and transformers, services may not.
"""

from services.chassis.worker.chat import Inexpressible, describe_chat, encode_conversation, fingerprint, load_tokenizer

__all__ = [
    "Inexpressible",
    "describe_chat",
    "encode_conversation",
    "fingerprint",
    "load_tokenizer",
]
