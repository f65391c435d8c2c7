"""The contract between a stage's pure logic and whatever runs it.

A stage is a `LaneLogic`: pure functions over the frozen state of one lane (one channel of one call). ``plan`` says what
to infer, the runner calls ``engine.infer`` and hands the result to ``apply``; both return a `Step`. Logic has no clock,
no I/O and no model library, so the same records in the same order give the same outputs, whatever the record sizes,
restarts or load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from schemas.records import CallAnnotation, CallAudio, CallSegment, CallSpeech, Channel, Started

Envelope = CallAudio | CallSpeech | CallAnnotation | CallSegment

S = TypeVar("S")
W = TypeVar("W")
R = TypeVar("R")
W_contra = TypeVar("W_contra", contravariant=True)
R_contra = TypeVar("R_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


SKIP = b"skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What is known of a lane when it opens: its channel and the call's first record."""

    channel: Channel
    started: Started


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An output before the flow stamps it with call, channel, sequence and capture time.

    ``body`` holds the sub-record by field name, e.g. ``{"speech": Speech(...)}``. A draft that is not ``counted``
    (a tentative tail) consumes no sequence number: it may be dropped or repeated without harm.
    """

    kind: str
    start_sample: int
    body: Mapping[str, Any] = field(default_factory=dict)
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Step(Generic[S, W]):
    """Result of one step of logic: the new state, outputs in order, and what to infer next, if anything."""

    state: S
    outputs: tuple[Draft, ...] = ()
    work: W | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Enough of a lane's state to go on exactly.

    ``needed_sequence`` is the first input record of the lane's channel that must be read again to rebuild buffers;
    None when every record received so far has been used up. ``needed_writer`` names whose record that is where the input has several
    writers; what the others have written has been used up.
    """

    data: bytes
    needed_sequence: int | None = None
    needed_writer: str | None = None

    def needed_of(self, writer: str) -> int | None:
        """Return the first record of a writer that must be read again, None where none must."""
        return self.needed_sequence if self.needed_writer in (None, writer) else None


class LaneLogic(Protocol[S, W, R_contra]):
    """A stage's logic for one lane. ``S`` state, ``W`` work for the engine, ``R`` its result."""

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of records of a channel that ``plan`` consumes; others are copied to the output."""

    @property
    def controls(self) -> frozenset[str]:
        """Kinds of records of the whole call that ``plan`` wants to see; all are copied to the output."""

    def open(self, lane: Lane) -> S:
        """Return the state of a lane that has heard nothing."""

    def plan(self, state: S, record: Any) -> Step[S, W]:
        """Take in one record. Raises PoisonError, and then the state stays as it was."""

    def apply(self, state: S, work: W, result: R_contra) -> Step[S, W]:
        """Take in the result of ``work``."""

    def snapshot(self, state: S) -> Snapshot | None:
        """Return what is needed to go on from here, or None at a position that cannot be resumed (an open utterance)."""

    def restore(self, lane: Lane, data: bytes) -> S:
        """Return the state of a snapshot. Raises FatalError when it was written by an unknown version."""


class AbandoningLogic(LaneLogic[S, W, R_contra], Protocol):
    """The logic of a stage with an engine, which some audio may end together with the process."""

    def abandon(self, state: S, record: Any) -> Step[S, W]:
        """Take in one record without asking the engine: the step never has work, and the state can be resumed.

        What the lane has heard and not written, up to the end of the record, is written as lost. Raises PoisonError like ``plan``.
        """


class FeedLogic(LaneLogic[S, W, R_contra], Protocol):
    """The logic of a stage that reads what feeds write."""

    def read_to(self, state: S) -> int:
        """Return the end of the audio that the lane has read, in samples at the channel's rate."""


class Engine(Protocol[W_contra, R_co]):
    """A model behind a stage: weights are shared by all lanes, state stays in the lanes.

    ``max_batch`` is how many items one call of ``infer`` should get, 1 when company gains nothing; ``threads`` how many
    threads may call it at once, 0 for one per core. An engine that cannot mix all items in one batch has a method
    ``bucket(work)``; only items of equal buckets come together.
    """

    @property
    def max_batch(self) -> int:
        """Return how many items to hand over at once."""

    @property
    def threads(self) -> int:
        """Return how many threads may call ``infer`` at once."""

    def infer(self, batch: Sequence[W_contra]) -> Sequence[R_co]:
        """Return one result per work item, in order. Called from an executor thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec(Generic[S, W, R]):
    """A stage, as data: what it reads and writes, and how its logic and engine are made.

    ``writers`` are the stages that write the input topic, the first one being authoritative for the call's control
    records. ``clocks`` names the stage itself where it closes silent feeds. ``headers`` of an output may tell the stages that
    read it that it does not concern them: their name, with the value `SKIP`. ``is_rarely_asked``: most calls ask nothing of its engine.
    """

    name: str
    input: str
    output: str
    reads: type[Envelope]
    writes: type[Envelope]
    writers: tuple[str, ...]
    make_logic: Callable[[Any], LaneLogic[S, W, R]]
    make_engine: Callable[[Any], Engine[W, R] | None]
    clocks: tuple[str, ...] = ()
    is_rarely_asked: bool = False
    headers: Callable[[Any, Lane], Mapping[str, bytes]] = lambda record, lane: {}

    def skips(self, headers: Mapping[str, bytes]) -> bool:
        """Return whether the headers of a record say that it does not concern the stage."""
        return headers.get(self.name) == SKIP
