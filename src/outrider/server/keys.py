"""API keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from outrider.server.errors import ApiError

BEARER = "bearer "
ANYBODY = ""  # the tenant, where no key is needed


def tenant_of(key: str) -> str:
    """The name that stands for a key, and does not tell it."""
    return _digest(key).hex()


def isolation_of(tenant: str, salt: str = "") -> str:
    """Whose caches and whose memory of drafters a text may use."""
    return f"{tenant} {salt}"


class Keys:
    """The keys of which a request must show one. None given lets everybody in, as one tenant."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def tenant(self, headers: Mapping[str, str]) -> str:
        """Whose request it is: a name that stands for the key, and does not tell it.

        All keys are compared, each in constant time.

        Raises:
            ApiError: the request shows no key, or another one.
        """
        if not self._digests:
            return ANYBODY
        shown = _digest(_shown(headers))
        found = [known for known in self._digests if hmac.compare_digest(known, shown)]
        if not found:
            raise ApiError(
                401,
                "the API key is missing or wrong: send authorization: Bearer KEY, or x-api-key: KEY",
                code="invalid_api_key",
            )
        return found[0].hex()


def _shown(headers: Mapping[str, str]) -> str:
    authorization = headers.get("authorization", "")
    if authorization[: len(BEARER)].lower() == BEARER:
        return authorization[len(BEARER) :].strip()
    return headers.get("x-api-key", "")


def _digest(key: str) -> bytes:
    # Equal lengths, so that a comparison tells nothing of them.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
