"""Errors of the server, before a dialect gives them its own shape."""

from __future__ import annotations

import math

from outrider.errors import InputError, ModelError, OutriderError, QueueFullError, SettingError


class ApiError(OutriderError):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        param: the field of the request that is wrong; None where it is not a single one.
        code: a word for programs; None where OpenAI has none.
        retry_after: seconds after which to try again; None says nothing.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        found = {}
        if self.retry_after is not None:
            found["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            found["www-authenticate"] = "Bearer"
        return found


def refused(message: str, param: str | None = None) -> ApiError:
    """The request asks for what cannot be."""
    return ApiError(400, message, param=param)


def as_api_error(error: Exception) -> ApiError:
    """An error of Outrider in terms of HTTP. One that was not raised on purpose says nothing of the server's inside."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFullError):
        return ApiError(429, "all rows are taken and the queue is full: try again later", retry_after=1)
    if isinstance(error, InputError):
        long = "tokens" in str(error) and "holds" in str(error)
        return ApiError(400, str(error), code="context_length_exceeded" if long else None)
    if isinstance(error, SettingError):
        return ApiError(400, str(error))
    if isinstance(error, ModelError):
        return ApiError(500, str(error), code="model_error")
    return ApiError(500, "the server failed on this request: its log says why", code="internal_error")
