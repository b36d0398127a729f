"""A text that must not be seen, and what keeps such texts out of logs."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection


class Secret(str):
    """A string that does not show itself when it is printed or logged."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def reveal(self) -> str:
        """The secret itself, for the one place that sends it."""
        return str.__str__(self)


class SecretFilter(logging.Filter):
    """Removes known secrets, and the values of `access_token=`, from every record, exception text included."""

    _TOKEN = re.compile(
        r"(access_token['\"]?\s*[=:]\s*['\"]?|Authorization['\"]?:\s*['\"]?token )[^&\s'\"]+", re.IGNORECASE
    )

    def __init__(self, secrets: Collection[str] = ()) -> None:
        """`secrets` may grow later: a token may be renewed."""
        super().__init__()
        self._secrets = secrets

    def clean(self, text: str) -> str:
        # The longest first: one may be the beginning of another.
        for secret in sorted(self._secrets, key=len, reverse=True):
            if len(secret) >= 4:
                text = text.replace(secret, "***")
        return self._TOKEN.sub(r"\1***", text)

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # a hook's log call whose arguments do not fit
            message = f"{record.msg} {record.args}"
        record.msg, record.args = self.clean(message), ()
        if record.exc_info:
            record.exc_text = self.clean(record.exc_text or logging.Formatter().formatException(record.exc_info))
        if record.stack_info:
            record.stack_info = self.clean(record.stack_info)
        return True
