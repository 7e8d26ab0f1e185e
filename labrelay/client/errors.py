"""What can go wrong between a notebook and the hub.

::

    ClientError
    ├── HubUnreachable      no connection, or none any more, after some attempts
    ├── HubFailed           the hub answered with 5xx, after some attempts
    └── RequestRefused      the hub says no (4xx)
        ├── NotSignedIn         401: no token, or one that is wrong or has expired
        ├── NotPermitted        403: your role does not suffice
        └── NotFound            404: not there, or not yours to see
"""

from __future__ import annotations

import httpx


class ClientError(Exception):
    """Root of all errors of the client."""


class HubUnreachable(ClientError):
    """There is no connection to the hub."""


class HubFailed(ClientError):
    """The hub could not do what it was asked, and it was not our fault."""


class RequestRefused(ClientError):
    """The hub says no.

    Attributes:
        status: HTTP status.
        request_id: for whoever looks into the hub's log.
    """

    def __init__(self, message: str, status: int, request_id: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class NotSignedIn(RequestRefused):
    """No token, or one that is wrong or has expired."""


class NotPermitted(RequestRefused):
    """Your role does not suffice."""


class NotFound(RequestRefused):
    """Not there, or not yours to see."""


_KINDS: dict[int, type[RequestRefused]] = {401: NotSignedIn, 403: NotPermitted, 404: NotFound}


def check(answer: httpx.Response) -> None:
    """Raise what the answer means, if it is not a success. The body must have been read."""
    if answer.is_success:
        return
    detail, request_id = _problem(answer)
    message = f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {detail}".rstrip()
    if answer.is_server_error:
        raise HubFailed(message)
    raise _KINDS.get(answer.status_code, RequestRefused)(message, answer.status_code, request_id)


def _problem(answer: httpx.Response) -> tuple[str, str]:
    try:
        problem = answer.json()
        return str(problem.get("detail", "")), str(problem.get("request_id", ""))
    except (ValueError, AttributeError):
        return answer.text[:200], ""
