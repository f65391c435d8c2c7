from __future__ import annotations

import pytest

from pipeline.core.errors import NotReadyError
from pipeline.runtime.admission import LOOK_SECONDS, Admission
from pipeline.runtime.lag import StageLag


class Broker:
    def __init__(self) -> None:
        self.seconds: float | None = 0.0
        self.asked = 0
        self.now = 0.0

    def lags(self) -> dict[str, StageLag]:
        self.asked += 1
        return {"vad": StageLag(records=1, seconds=1.0), "asr": StageLag(records=9, seconds=self.seconds)}


def test_a_new_call_is_refused_while_a_stage_is_too_far_behind() -> None:
    broker = Broker()
    admission = Admission(40, broker.lags, clock=lambda: broker.now)
    admission.admit("a")
    broker.seconds = 61
    admission.admit("b")  # the answer holds for some seconds
    broker.now += LOOK_SECONDS
    for call_id in ("c", "d"):
        with pytest.raises(NotReadyError, match=f"call {call_id} is not admitted: stage asr is 61 s behind"):
            admission.admit(call_id)
    assert broker.asked == 2
    broker.seconds = 39
    broker.now += LOOK_SECONDS
    admission.admit("e")


@pytest.mark.parametrize("limit", [0, 1])
def test_what_nobody_knows_refuses_nobody(limit: float) -> None:
    broker = Broker()
    broker.seconds = None
    Admission(limit, broker.lags).admit("a")
    assert broker.asked == limit
