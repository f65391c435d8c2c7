"""What a call may ask of recognition, as records and settings say it."""

from __future__ import annotations

from typing import Literal, get_args

PolicyName = Literal["alignatt", "local_agreement"]
Task = Literal["transcribe", "translate"]
POLICIES: tuple[str, ...] = get_args(PolicyName)
TASKS: tuple[str, ...] = get_args(Task)
AUTOMATIC = "auto"  # as a language: detected once per channel, then locked
