"""Tokens of sensors: shown once, or as often as the request that drew one is repeated.

Without an `Idempotency-Key` a token is random. With one it is derived from the hub's secret key, the sensor, the moment
and that key, so that a repeat can show the same token although only its hash was ever stored.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel

from hub.access.tokens import TokenSigner, new_token
from hub.errors import conflict
from hub.sensors.views import SensorView, SensorWithToken

PREVIEW_LENGTH = 4


class KeptSensor(BaseModel):
    """What is kept of an answer that shows a token."""

    sensor: SensorView

    @staticmethod
    def of(view: BaseModel) -> KeptSensor:
        """The answer without its token."""
        assert isinstance(view, SensorWithToken)
        return KeptSensor(sensor=view.sensor)


def draw(signer: TokenSigner, sensor_id: UUID, now: datetime, key_text: str | None) -> str:
    """A new token.

    Args:
        now: what `updated_at` of the sensor will be.
        key_text: the request's `Idempotency-Key`, if it has one.
    """
    if key_text is None:
        return new_token()
    return signer.derive("sensor token", f"{sensor_id} {now.timestamp():.6f} {key_text}".encode())


def restoring(signer: TokenSigner, key_text: str | None) -> Callable[[bytes], bytes]:
    """What makes of a kept answer the one that was given.

    The function raises: Problem 409 when the hub's secret key is another one by now.
    """

    def restore(kept: bytes) -> bytes:
        sensor = KeptSensor.model_validate_json(kept).sensor
        token = draw(signer, sensor.id, sensor.updated_at, key_text)
        if token[-PREVIEW_LENGTH:] != sensor.token_preview:
            raise conflict("this token cannot be shown again; rotate it", code="token_lost")
        return SensorWithToken(sensor=sensor, token=token).model_dump_json().encode()

    return restore
