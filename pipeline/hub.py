"""Whether the model hub answers, asked without waiting for longer than was said."""

from __future__ import annotations

import threading


def unreachable(timeout_seconds: float) -> str | None:
    """Return why the hub does not answer, or None when it does.

    Any HTTP answer counts, through whatever proxy or mirror the hub client is set up for. The thread bounds what the
    client's own time-out does not: name resolution, and one attempt per address.
    """
    from huggingface_hub import constants, get_session

    outcome: list[str | None] = []

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=timeout_seconds)
            outcome.append(None)
        except Exception as error:  # network, TLS, proxy, offline mode: each means the same here
            outcome.append(type(error).__name__)

    thread = threading.Thread(target=ask, name="hub-probe", daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    return outcome[0] if outcome else f"no answer in {timeout_seconds:g} s"
