"""Who is logged in: SSO tokens that end, by a test's wish or after a number of requests."""

from __future__ import annotations

import secrets


class Logins:
    """The tokens of one engine. `serves` is how many requests a token is good for; 0 for any number."""

    def __init__(self, user: str, serves: int = 0) -> None:
        self.user = user
        self.serves = serves
        self._left: dict[str, int] = {}

    def log_in(self, user: str, given: str, password: str) -> str:
        """A new token, or "" if user or password are wrong."""
        if user != self.user or given != password:
            return ""
        token = secrets.token_hex(16)
        self._left[token] = self.serves
        return token

    def take(self, token: str) -> bool:
        """Whether the token is valid for one more request."""
        if token not in self._left:
            return False
        if self._left[token] == 1:
            del self._left[token]
        elif self._left[token]:
            self._left[token] -= 1
        return True

    def log_out(self, token: str) -> None:
        """The token is not needed any more."""
        self._left.pop(token, None)

    def forget(self) -> None:
        """Every token has expired."""
        self._left.clear()

    def __len__(self) -> int:
        return len(self._left)
