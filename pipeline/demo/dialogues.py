"""The shipped calls as scripts: who says what, in which voice, over which line.

Every sentence follows the templates in `phrases`. ``|`` inside a sentence is a pause of the speaker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AGENT, CUSTOMER = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """A synthetic voice: ``rate`` is espeak-ng's words per minute or flite's duration stretch; ``pitch`` in its own unit."""

    program: Literal["espeak-ng", "flite"]
    name: str
    rate: float
    pitch: int


@dataclass(frozen=True, slots=True)
class Turn:
    """Sentences of one speaker. A negative ``gap_seconds`` starts before the other speaker ends; None draws a natural gap."""

    channel: int
    sentences: tuple[str, ...]
    gap_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Nobody speaks; ``kind`` "hold" when the agent left the line, "silence" when both wait."""

    seconds: float
    kind: Literal["hold", "silence"] = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """A call to be synthesized. ``noise_dbfs`` is the line noise of each channel (RMS), None for digital silence."""

    name: str
    description: str
    voices: tuple[Voice, Voice]
    level_dbfs: tuple[float, float]
    noise_dbfs: tuple[float | None, float | None]
    turns: tuple[Turn | Hold, ...]


def _agent(*sentences: str, gap: float | None = None) -> Turn:
    return Turn(AGENT, sentences, gap)


def _customer(*sentences: str, gap: float | None = None) -> Turn:
    return Turn(CUSTOMER, sentences, gap)


BILLING = Dialogue(
    name="billing",
    description="A double charge is refunded; quiet line noise, a hold of 8 s, one interruption.",
    voices=(
        Voice(program="flite", name="slt", rate=1.0, pitch=180),
        Voice(program="flite", name="rms", rate=0.95, pitch=95),
    ),
    level_dbfs=(-22.0, -25.0),
    noise_dbfs=(-62.0, -58.0),
    turns=(
        _agent("Thank you for calling customer support.", "My name is Sarah.", "How can I help you today?"),
        _customer("Hello, my bill looks wrong to me.", "You charged me ninety dollars for the | monthly subscription."),
        _agent("I am sorry to hear that.", "May I have your account number please?"),
        _customer("My account number is four seven two | nine one five | three eight."),
        _agent("Let me check that for you.", "Can you confirm your date of birth?"),
        _customer("Yes.", "I was born on March third."),
        _agent(
            "I have found your account.",
            "Please hold while I pull up your account.",
            "This call may be recorded for quality purposes.",
        ),
        _customer("Okay, thank you very much.", gap=-1.1),
        Hold(8.0),
        _agent("Thank you for your patience.", "I have found your payment.", "Your subscription was charged twice."),
        _customer("Yes, that is correct.", "I already paid the invoice in January.", "Can I get a refund?", gap=-0.5),
        _agent("I will send the refund right away.", "Your reference number is eight one six | zero four two."),
        _customer("Eight one six zero four two.", gap=0.3),
        _agent("The refund will take five business days.", "You will receive an email within two days."),
        _customer("That sounds good.", "How long will it take?", gap=-1.6),
        _agent("Five days.", "Is there anything else I can help you with?", gap=0.25),
        _customer("No.", "Great, thanks for your help."),
        _agent("I appreciate your call.", "Have a great day."),
        _customer("Goodbye.", gap=-0.4),
    ),
)

DELIVERY = Dialogue(
    name="delivery",
    description="A parcel that never came; digital silence between the words, a hold of 6.5 s, both speak at once three times.",
    voices=(
        Voice(program="espeak-ng", name="en-us+f2", rate=160, pitch=52),
        Voice(program="flite", name="awb", rate=1.0, pitch=128),
    ),
    level_dbfs=(-23.0, -24.0),
    noise_dbfs=(None, None),
    turns=(
        _agent("Good morning, you are speaking with Emma.", "How can I help you today?"),
        _customer(
            "Hi, I am calling about my package.",
            "My package has not arrived.",
            "I have been waiting for | three weeks.",
        ),
        _agent("I understand your frustration.", "Could you spell your last name?"),
        _customer("My name is Daniel Cooper.", "This is the third time I am calling.", "I am really upset about this."),
        _agent("I am sorry to hear that.", "Can I have your phone number?", gap=-0.9),
        _customer("My phone number is | six zero three | five five one | eight two seven."),
        _agent("Six zero three five five one eight two seven."),
        _customer("Yes, that is correct.", gap=-0.6),
        _agent("Let me put you on hold for a minute.", "Please stay on the line."),
        Hold(6.5),
        _agent(
            "Thank you for your patience.", "I have found your order.", "I am sorry, your parcel was never delivered."
        ),
        _customer("I would like to speak to a manager.", "I need it before Friday.", gap=-1.2),
        _agent("I understand.", "I will track the delivery right away.", "I will send the replacement right away."),
        _customer("When will the replacement arrive?"),
        _agent("You will receive the parcel before Thursday.", "I can offer you a | twenty percent discount."),
        _customer("Okay, thank you very much.", "Could you call me back on Wednesday?"),
        _agent("Yes.", "Your reference number is three nine seven | one one four."),
        _customer("That sounds good.", "Goodbye."),
        _agent("Have a great day.", gap=-0.3),
    ),
)

INTERNET = Dialogue(
    name="internet",
    description="A router is restarted; a noisier customer line, both wait 9 s in silence, then a short hold.",
    voices=(
        Voice(program="flite", name="rms", rate=1.0, pitch=100),
        Voice(program="flite", name="slt", rate=1.05, pitch=195),
    ),
    level_dbfs=(-21.0, -26.0),
    noise_dbfs=(None, -54.0),
    turns=(
        _agent("Good afternoon, how may I help you?"),
        _customer(
            "Hello, my internet keeps dropping.", "My connection is very slow | and my television is not working."
        ),
        _agent("I am sorry to hear that.", "May I have your account number please?"),
        _customer("It is two zero eight | six six one | four nine."),
        _agent("One moment please.", "Could you restart the router for me?"),
        _customer("One moment please."),
        Hold(9.0, kind="silence"),
        _customer("The router is not working.", "It shows an error message."),
        _agent("Let me check that for you.", "I will reset the connection right away.", gap=-0.8),
        _customer("How long will it take?", "I need it before Monday.", gap=0.2),
        _agent("I understand your frustration.", "Please stay on the line."),
        Hold(6.0),
        _agent(
            "Thank you for your patience.",
            "I have found your modem.",
            "It is the old battery.",
            "I will send the replacement right away.",
        ),
        _customer("What are my options?", "The contract is too expensive.", gap=-0.7),
        _agent("I can offer you a fifteen percent discount.", "You will receive an email within four days."),
        _customer("Great.", "I do not remember my password.", "Can you reset it for me?"),
        _agent("I will reset the password right away.", "It is five three zero | seven two."),
        _customer("Five three zero seven two.", gap=0.3),
        _agent("Yes, that is correct.", "That should fix the problem.", "Is there anything else I can help you with?"),
        _customer("No, thank you.", "I am very happy with the service.", "Goodbye.", gap=-0.5),
        _agent("I appreciate your call.", "Have a great day.", gap=-0.7),
    ),
)

DIALOGUES = (BILLING, DELIVERY, INTERNET)
