"""The tokens that a process issues for its own calls, kept while they are good by both clocks.

A token ends by the wall clock, which jumps when a machine wakes up or its time is set. The monotonic clock may stand
still in a sleep. So a token is kept only while both clocks say that it is young.
"""

import time

from services.chassis.auth import Principal, TokenIssuer

_MOST_KEPT = 10_000


class Tokens:
    """Tokens by principal, each good for half of its life at least when it is given out."""

    def __init__(self, issuer: TokenIssuer, seconds: float) -> None:
        self._issuer, self._seconds = issuer, seconds
        self._kept: dict[Principal, tuple[str, float, float]] = {}

    def of(self, principal: Principal) -> str:
        """Return a token of a principal."""
        wall, steady = time.time(), time.monotonic()
        token, issued_wall, issued_steady = self._kept.get(principal, ("", 0.0, 0.0))
        # Both ways: a wall clock that was set back makes a token one of the future, which nobody believes either.
        if token and abs(wall - issued_wall) < self._seconds / 2 and steady - issued_steady < self._seconds / 2:
            return token
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        token = self._issuer.issue(principal, self._seconds)
        self._kept[principal] = (token, wall, steady)
        return token

    def renewed(self, token: str) -> str:
        """Return a new token for the principal of one that was refused. Raises: Unauthenticated: it is none of ours."""
        principal = self._issuer.issued_to(token)
        self._kept.pop(principal, None)
        return self.of(principal)
