"""Encryption of secrets that must be read again: credentials of object stores, webhook secrets.

AES-256-GCM with a random nonce. The context (for example the credential's id) is authenticated: a ciphertext moved to
another row does not open. The id of the key stands beside the ciphertext, so that keys can be changed.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12
_FORMAT = "v1"


class Sealed(Exception):
    """A ciphertext does not open: it was damaged, belongs to another context, or its key is not here."""


class Vault:
    """Seal with the first key and open with any of them."""

    def __init__(self, key: bytes, older: Sequence[bytes] = ()) -> None:
        """Args: keys of 32 bytes each; `older` ones only open what was sealed with them.

        Raises: ValueError: a key has another length.
        """
        for each in (key, *older):
            if len(each) != KEY_BYTES:
                raise ValueError(f"the vault's key has {len(each)} bytes; it must have {KEY_BYTES}")
        self._current = key_id(key)
        self._ciphers = {key_id(each): AESGCM(each) for each in (*older, key)}

    @classmethod
    def of(cls, encoded: str) -> "Vault":
        """Return a vault of a key as settings hold it: base64 of 32 bytes; after commas, older keys.

        Raises: ValueError: it is not that.
        """
        try:
            keys = [base64.b64decode(part.strip(), validate=True) for part in encoded.split(",")]
        except (binascii.Error, ValueError) as error:
            raise ValueError("the vault's key is not base64") from error
        return cls(keys[0], keys[1:])

    def seal(self, plaintext: str, context: str) -> str:
        """Return the plaintext as text that only this key opens, and only in this context."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._current].encrypt(nonce, plaintext.encode(), context.encode())
        return f"{_FORMAT}.{self._current}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, ciphertext: str, context: str) -> str:
        """Return the plaintext. Raises: Sealed: it does not open."""
        try:
            form, key, encoded = ciphertext.split(".")
            raw = base64.urlsafe_b64decode(encoded)
            if form != _FORMAT:
                raise Sealed(f"the secret is sealed in form {form!r}, which this version does not know")
            cipher = self._ciphers[key]
            return cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], context.encode()).decode()
        except KeyError as error:
            raise Sealed(f"the secret was sealed with a key ({error}) that is not here") from error
        except (InvalidTag, ValueError) as error:
            raise Sealed("the secret is damaged or belongs to something else") from error


def key_id(key: bytes) -> str:
    """Return a short name of a key that tells nothing about it."""
    return hashlib.sha256(b"modelry vault key id" + key).hexdigest()[:8]
