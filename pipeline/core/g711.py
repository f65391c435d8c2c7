"""G.711: 8-bit logarithmic telephony audio to 16-bit linear and back (ITU-T Recommendation G.711, 11/1988).

The 14-bit (mu-law) and 13-bit (A-law) values of the recommendation are scaled to 16 bits, as every decoder does.
Encoding a decoded value gives the code back, except that mu-law has two zeros (0x7F and 0xFF): the encoder writes 0xFF.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Law = Literal["mulaw", "alaw"]

MULAW_BIAS = 132  # 33 in the recommendation's 14 bits
MULAW_CLIP = 32635  # largest magnitude whose biased value still fits the eighth segment
SILENCE: dict[str, int] = {"mulaw": 0xFF, "alaw": 0xD5}


def _mulaw_decoder() -> NDArray[np.int16]:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + MULAW_BIAS) << ((code & 0x70) >> 4)) - MULAW_BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_decoder() -> NDArray[np.int16]:
    code = np.arange(256, dtype=np.int32) ^ 0x55
    segment = (code & 0x70) >> 4
    step = (code & 0x0F) << 4
    magnitude = np.where(segment == 0, step + 8, (step + 0x108) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _mulaw_encoder() -> NDArray[np.uint8]:
    sample = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
    magnitude = np.minimum(np.abs(sample), MULAW_CLIP) + MULAW_BIAS
    segment = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (segment + 3)) & 0x0F
    sign = np.where(sample < 0, 0x80, 0)
    return np.asarray(~(sign | (segment << 4) | mantissa) & 0xFF, dtype=np.uint8)


def _alaw_encoder() -> NDArray[np.uint8]:
    sample = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
    magnitude = np.where(sample >= 0, sample, -sample - 1) >> 4
    segment = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 3, 0)
    segment = np.where(magnitude < 16, 0, segment)
    mantissa = np.where(segment == 0, magnitude, magnitude >> np.maximum(segment - 1, 0)) & 0x0F
    sign = np.where(sample >= 0, 0x80, 0)
    return np.asarray((sign | (segment << 4) | mantissa) ^ 0x55, dtype=np.uint8)


_DECODERS: dict[str, NDArray[np.int16]] = {"mulaw": _mulaw_decoder(), "alaw": _alaw_decoder()}
_ENCODERS: dict[str, NDArray[np.uint8]] = {"mulaw": _mulaw_encoder(), "alaw": _alaw_encoder()}


def decode(data: bytes | bytearray | memoryview, law: Law) -> NDArray[np.int16]:
    """Return the linear samples ``[n]`` of ``n`` G.711 bytes.

    >>> decode(bytes([0xFF, 0x80]), "mulaw").tolist()
    [0, 32124]
    """
    samples: NDArray[np.int16] = _DECODERS[law][np.frombuffer(data, dtype=np.uint8)]
    return samples


def encode(samples: NDArray[np.int16], law: Law) -> bytes:
    """Return the G.711 bytes of linear samples ``[n]``, int16.

    >>> encode(np.array([0, 32124], np.int16), "mulaw").hex()
    'ff80'
    """
    codes: NDArray[np.uint8] = _ENCODERS[law][np.ascontiguousarray(samples, dtype=np.int16).view(np.uint16)]
    return codes.tobytes()
