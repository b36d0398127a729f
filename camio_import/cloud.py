"""One account of the Camio service: where it is, its access token, and calls that are sent with it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from camio_import.connection import STALL_TIMEOUT_S
from camio_import.errors import CredentialsRefused, UsageError
from camio_import.secret import Secret
from camio_import.transport import ANSWER_CAP_BYTES, HttpClient, is_loopback, raise_for_status

PRODUCTION_URL = "https://www.camio.com"
TESTING_URL = "https://test.camio.com"

T = TypeVar("T")


class Cloud:
    """The service, as one account sees it. Each call is one attempt.

    A token that is refused is asked for again once, from `renewed_token`: it may have been replaced in
    its file since. Another one is then used from there on, first for the call that failed.

    Attributes:
        who: how messages name it.
        base_url: scheme, host and port.

    Raises (every call):
        Unreachable, RetryLater: it does not answer, or asks to try again.
        CredentialsRefused: the token was refused.
        Refused: it will not carry this out.
        BadAnswer: the answer is not what the protocol promises.
    """

    def __init__(
        self,
        api_url: str,
        token: Secret,
        *,
        renewed_token: Callable[[], Secret] | None = None,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self._api_url = api_url
        self._token = token
        self._renewed_token = renewed_token
        self._stall_timeout_s = stall_timeout_s
        self._renewing = threading.Lock()
        self._client = self._client_with(token)
        self.who = self._client.who
        self.base_url = self._client.base_url

    @classmethod
    def of(
        cls,
        data: Mapping[str, Any],
        environment: Mapping[str, str],
        *,
        renewed: Callable[[], Mapping[str, str]] | None = None,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> Cloud:
        """The account that the settings name: hook data first, then the environment (docs/protocol.md).

        `renewed` reads the environment, with the token of a token file, once more.

        Raises:
            CredentialsRefused: there is no token, or none that can be one.
            UsageError: the address cannot be used.
        """
        return cls(
            _api_url(data, environment),
            _token(data, environment),
            renewed_token=None if renewed is None else lambda: _token(data, renewed()),
            stall_timeout_s=stall_timeout_s,
        )

    def _client_with(self, token: Secret) -> HttpClient:
        return HttpClient(
            self._api_url,
            who=f"Camio ({urlsplit(self._api_url).netloc})",
            headers={"Authorization": f"token {token.reveal()}"},
            stall_timeout_s=self._stall_timeout_s,
            secrets=(token.reveal(),),
            use_proxy=not is_loopback(self._api_url),
        )

    def json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json_body: Any = None,
        answer_cap_bytes: int = ANSWER_CAP_BYTES,
    ) -> Any:
        """Call, and return the JSON value that is the answer, of at most `answer_cap_bytes`."""
        return self._with_token(
            lambda client: client.call_json(
                method, path, query=query, json_body=json_body, answer_cap_bytes=answer_cap_bytes
            )
        )

    def send(self, method: str, path: str, *, json_body: Any, what: str = "") -> None:
        """Call; the answer says nothing but that it was done. `what` names the call in messages."""

        def call(client: HttpClient) -> None:
            answer = client.call(method, path, json_body=json_body)
            raise_for_status(answer, self.who, what=what or f"{method} {path}")

        self._with_token(call)

    def close(self) -> None:
        self._client.close()

    def _with_token(self, call: Callable[[HttpClient], T]) -> T:
        client = self._client
        try:
            return call(client)
        except CredentialsRefused as error:
            try:
                renewed = self._renewed_after(client)
            except (CredentialsRefused, UsageError) as unusable:
                # Whoever replaces the token just now may not be done yet: one more refusal, for all that follows.
                raise CredentialsRefused(str(unusable), next_step=unusable.next_step) from error
            if renewed is None:
                raise self._token_refused() from error
        try:
            return call(renewed)
        except CredentialsRefused as error:
            raise self._token_refused() from error

    def _renewed_after(self, refused: HttpClient) -> HttpClient | None:
        """A client with another token than the refused one; None when there is no other."""
        with self._renewing:
            if self._client is refused and self._renewed_token is not None:
                token = self._renewed_token()
                if token.reveal() != self._token.reveal():
                    # The old client is left to the calls that other threads are making with it.
                    self._token, self._client = token, self._client_with(token)
            return None if self._client is refused else self._client

    def _token_refused(self) -> CredentialsRefused:
        return CredentialsRefused(
            f"{self.who} refused the access token.",
            next_step="Is it still listed on https://www.camio.com/settings/integrations#api?"
            " Copy it again from there.",
        )


def _token(data: Mapping[str, Any], environment: Mapping[str, str]) -> Secret:
    token = text_setting(data, "access_token") or environment.get("CAMIO_OAUTH_TOKEN", "").strip()
    if not token:
        raise CredentialsRefused(
            "There is no Camio access token.",
            next_step="Copy the Developer OAuth token from https://www.camio.com/settings/integrations#api and set"
            " it: export CAMIO_OAUTH_TOKEN=… (on Windows: set CAMIO_OAUTH_TOKEN=…).",
        )
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise CredentialsRefused(
            "The Camio access token contains blanks or other characters that no token has.",
            next_step="Copy it again from https://www.camio.com/settings/integrations#api, without anything around it.",
        )
    return Secret(token)


def _api_url(data: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    url = text_setting(data, "api_url") or environment.get("CAMIO_API_URL", "")
    if not url:
        return TESTING_URL if data.get("test") is True else PRODUCTION_URL
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"“{url}” is not the address of a Camio API.", next_step="It looks like https://www.camio.com."
        )
    if parts.scheme == "http" and not is_loopback(url):
        raise UsageError(
            f"The address {url} is not protected (http): the access token would be readable on the network.",
            next_step="Use https://.",
        )
    return f"{parts.scheme}://{parts.netloc}"


def text_setting(data: Mapping[str, Any], key: str) -> str:
    """A text of the hook data, stripped; "" when it is not there. Raises UsageError when it is no text."""
    value = data.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UsageError(f'In the hook data, "{key}" is not a text.', next_step="Put it in double quotes.")
    return value.strip()
