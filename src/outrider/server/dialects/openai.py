"""OpenAI's shapes of errors."""

from __future__ import annotations

from typing import Any

from outrider.server.dialects.chat import DONE
from outrider.server.errors import ApiError
from outrider.server.replies import event

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class OpenAI:
    """Errors as OpenAI's clients read them."""

    def error(self, error: ApiError) -> dict[str, Any]:
        kind = TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
        return {"error": {"message": str(error), "type": kind, "param": error.param, "code": error.code}}

    def error_event(self, error: ApiError, sent: int) -> bytes:
        return event(self.error(error)) + DONE


class Responses(OpenAI):
    """Errors of responses: in a stream they are numbered events, as the others there."""

    def error_event(self, error: ApiError, sent: int) -> bytes:
        told = {"code": error.code, "message": str(error), "param": error.param}
        return event({"type": "error", "sequence_number": sent, **told}, "error")
