"""The one error tree of the product.

::

    LabrelayError
    ├── ConfigurationError        a file says something we cannot follow (file, line, nearest known key)
    ├── InstrumentError           one exchange with an instrument failed
    │   ├── InstrumentUnavailable     port gone, connection refused or lost          retryable
    │   ├── InstrumentTimeout         no answer within the device's timeout          retryable
    │   ├── InvalidAnswer             wrong checksum, other unit's id, garbage       retryable
    │   └── RequestRefused            the instrument says no (Modbus exception)
    ├── ProfileError              a conversion profile that does not fit its kind
    ├── WireError                 bytes that are not a batch
    │   ├── CorruptBatch              truncated, flipped, or inconsistent in itself
    │   ├── UnsupportedVersion        a version that this side does not speak
    │   └── LimitExceeded             larger than the format allows
    ├── SpoolError                the disk queue
    │   ├── SpoolFull                 quota reached under the policy `block`         retryable
    │   └── SpoolUnavailable          disk full, file locked or unreadable           retryable
    ├── LinkError                 agent ↔ broker ↔ hub
    │   ├── LinkUnavailable           refused, lost, or no answer                    retryable
    │   └── CredentialsRefused        wrong user or password, revoked agent
    ├── StorageError              the hub's database, and where it keeps files
    │   ├── StorageUnavailable        away, read-only, or out of connections         retryable
    │   ├── ContentsUnavailable       the store of artifacts: away, full, refusing   retryable
    │   └── MigrationError            schema newer than this hub, or a migration changed
    └── EnrolmentError            a code that is wrong, used, expired, or pins another certificate

`retryable` says whether the same call may succeed later without anyone changing anything. `hint` tells the operator
what to do next. Errors of libraries are translated at the border where the library is called and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class LabrelayError(Exception):
    """Root of all errors that the product raises on purpose.

    Args:
        message: what happened, in a sentence without a final stop.
        hint: what the operator can do about it.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigurationError(LabrelayError):
    """A configuration that cannot be followed.

    Attributes:
        key: path of keys to the culprit, e.g. `("devices", "bench", "interval")`; who knows the file finds the line.
        file: the file's path, where known.
        line: line in the file (1-based), where known.
    """

    def __init__(
        self, message: str, *, key: Sequence[str] = (), file: str = "", line: int | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.key = tuple(key)
        self.file = file
        self.line = line

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part)
        return f"{place}: {super().__str__()}" if place else super().__str__()


class InstrumentError(LabrelayError):
    """One exchange with an instrument failed."""


class InstrumentUnavailable(InstrumentError):
    """The port or connection is not there."""

    retryable = True


class InstrumentTimeout(InstrumentError):
    """No complete answer came within the device's timeout."""

    retryable = True


class InvalidAnswer(InstrumentError):
    """Something came, but it is not the answer to this question."""

    retryable = True


class RequestRefused(InstrumentError):
    """The instrument understood and refused (a Modbus exception, a line instrument's error text)."""


class ProfileError(LabrelayError):
    """A conversion profile's payload does not fit its kind."""


class WireError(LabrelayError):
    """Bytes that are not a batch of ours."""


class CorruptBatch(WireError):
    """Truncated, flipped or inconsistent in itself."""


class UnsupportedVersion(WireError):
    """A wire version that this side does not speak."""


class LimitExceeded(WireError):
    """Larger than the wire format allows."""


class SpoolError(LabrelayError):
    """The disk queue could not do what was asked."""


class SpoolFull(SpoolError):
    """The quota is reached and the policy is to block acquisition."""

    retryable = True


class SpoolUnavailable(SpoolError):
    """The spool's file cannot be written or read now."""

    retryable = True


class LinkError(LabrelayError):
    """Between agent, broker and hub."""


class LinkUnavailable(LinkError):
    """The other side refused, vanished or did not answer."""

    retryable = True


class CredentialsRefused(LinkError):
    """The other side does not know us, or no longer does."""


class StorageError(LabrelayError):
    """The hub's database could not do what was asked."""


class StorageUnavailable(StorageError):
    """The database is away, read-only or out of connections."""

    retryable = True


class ContentsUnavailable(StorageError):
    """Where the contents of artifacts are kept is away, full, or refuses."""

    retryable = True


class MigrationError(StorageError):
    """The schema and this hub do not belong together."""


class EnrolmentError(LabrelayError):
    """An enrolment code that is wrong, used up, expired, or pins another certificate."""
