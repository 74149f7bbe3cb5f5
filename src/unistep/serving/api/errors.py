"""What clients see where something went wrong: one shape for all of it, that of OpenAI's API."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from unistep.files import DiskError
from unistep.serving.jobs import BusyError, LateError, ShareError
from unistep.serving.loading import BrokenModelError
from unistep.serving.pool import UnknownModelError

_log = logging.getLogger(__name__)

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    421: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    499: "client_closed_error",
    500: "server_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Type of an error by its status."""


class ErrorDetail(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(extra="forbid")
    message: str
    """One line for a person."""
    type: str
    """Which kind of error."""
    param: str | None
    """The field of the request that is wrong."""
    code: str | None
    """A word for programs."""


class ErrorBody(BaseModel):
    """The body of every answer that is none."""

    model_config = ConfigDict(extra="forbid")
    error: ErrorDetail
    """What went wrong."""


class APIError(Exception):
    """An answer that is an error.

    Args:
        status: HTTP status.
        message: One line.
        param: The field that is wrong.
        code: A word for programs.
        retry: Seconds after which it may work.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry = status, message, param, code, retry

    @property
    def body(self) -> dict[str, Any]:
        """What the client is sent."""
        detail = {"message": self.message, "type": KINDS.get(self.status, "server_error")}
        return {"error": {**detail, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """When to try again."""
        return {} if self.retry is None else {"Retry-After": str(max(1, math.ceil(self.retry)))}

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(self.body, self.status, headers=self.headers)


def as_api_error(error: BaseException) -> APIError:
    """What a client is sent for an error of any room; nothing of what is inside for those that are ours."""
    if isinstance(error, APIError):
        return error
    text = " ".join(str(error).split())[:1000]
    if isinstance(error, UnknownModelError):
        return APIError(404, text, param="model", code="model_not_found")
    if isinstance(error, ShareError):
        return APIError(429, text, code="too_many_at_once", retry=error.seconds)
    if isinstance(error, BusyError):
        return APIError(503, text, code="overloaded", retry=error.seconds)
    if isinstance(error, BrokenModelError):
        return APIError(503, text, param="model", code="model_unavailable", retry=error.seconds)
    if isinstance(error, LateError):
        return APIError(504, text, code="deadline_exceeded", retry=1.0)
    if isinstance(error, ModuleNotFoundError):
        return APIError(503, f"this server lacks the package {error.name}", code="package_missing", retry=3600.0)
    if isinstance(error, DiskError | OSError | MemoryError):  # before ValueError, which a full disk is too
        _log.error("a request failed: %s", text)
        return APIError(503, "the server lacks memory or disk space for this", code="no_resources", retry=60.0)
    if isinstance(error, ValueError):
        return APIError(400, text, code="invalid_value")
    _log.error("a request failed", exc_info=error)
    return APIError(500, "the server made a mistake, which its log has", code="internal_error")


RESPONSES: Mapping[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": KINDS[status].replace("_", " ")}
    for status in (400, 401, 403, 404, 408, 413, 421, 429, 503, 504)
}
"""The errors of a route, for its documentation."""


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Answer all errors of an application in the same shape.

    Args:
        app: The application.
        routes: Its routes, of which several may have one path.
    """

    async def known(request: Request, error: Exception) -> JSONResponse:
        del request
        return as_api_error(error).response()

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        del request
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        message = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            return APIError(
                400, f"there is no field {place[:60]!r} here", param=place[:60], code="unknown_field"
            ).response()
        if first["type"] == "json_invalid":
            return APIError(400, "the body is no JSON", code="invalid_json").response()
        return APIError(400, f"{place[:60]}: {message[:300]}", param=place[:60], code="invalid_value").response()

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        answer = APIError(error.status_code, str(error.detail), code="http_error").response()
        answer.headers.update(error.headers or {})
        if error.status_code == 405:
            fitting = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
            path = getattr(next(fitting, None), "path", None)
            here = [route for route in routes if getattr(route, "path", "") == path]
            methods = {method for route in here for method in getattr(route, "methods", None) or ()}
            answer.headers["Allow"] = ", ".join(sorted(methods))
        return answer

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    kinds = (APIError, ValueError, BusyError, LateError, BrokenModelError, ModuleNotFoundError)
    for kind in (*kinds, DiskError, OSError, MemoryError):
        app.add_exception_handler(kind, known)
    app.add_exception_handler(Exception, known)
