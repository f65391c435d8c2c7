"""The shipped calls as scripts: who says what, in which voice, over which line.

Every sentence follows the templates in `phrases`. ``|`` inside a sentence is a pause of the speaker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AGENT, CUSTOMER = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """A synthetic voice.

    ``rate`` is words per minute for espeak-ng and a stretch of durations for flite; ``pitch`` is 0-99 for espeak-ng
    and hertz for flite.
    """

    program: Literal["espeak-ng", "flite"]
    name: str
    rate: float
    pitch: int


@dataclass(frozen=True, slots=True)
class Turn:
    """Sentences of one speaker. Negative ``gap_seconds`` starts before the other speaker ends; None draws a gap."""

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
    description="A double charge is refunded; faint line noise on both channels, a hold of 8 s, interruptions.",
    voices=(
        Voice(program="flite", name="slt", rate=1.0, pitch=180),
        Voice(program="flite", name="rms", rate=0.95, pitch=95),
    ),
    level_dbfs=(-21.0, -23.0),
    noise_dbfs=(-72.0, -70.0),
    turns=(
        _agent("Thank you for calling customer support.", "My name is Sarah.", "How can I help you today?"),
        _customer("Hello, my bill was charged twice.", "You charged me ninety dollars for the subscription."),
        _agent("I am sorry to hear that.", "May I have your account number please?"),
        _customer("My account number is four seven two | nine one five | three eight six."),
        _agent("Let me check that for you.", "Can you confirm your date of birth?"),
        _customer("I was born on March third."),
        _agent("I have found your account.", "Let me put you on hold for a minute."),
        _customer("Okay, thank you very much.", gap=-0.9),
        Hold(8.0),
        _agent("Thank you for your patience.", "I have found your payment."),
        _customer("I already paid the invoice in January.", "Can I get a refund?", gap=-0.6),
        _agent("I will send the refund right away.", "Your reference number is eight one six | zero four two."),
        _customer("Eight one six zero four two.", gap=0.3),
        _agent("Yes, that is correct.", gap=-0.4),
        _customer("How long will it take?"),
        _agent("The refund will take five business days.", "You will receive an email within two days."),
        _customer("Great, thanks for your help.", gap=-1.5),
        _agent("Is there anything else I can help you with?"),
        _customer("I am very happy with the service.", "Goodbye."),
        _agent("Have a great day.", gap=-0.4),
    ),
)

DELIVERY = Dialogue(
    name="delivery",
    description="A package that never came; digital silence between the words, a hold of 6.5 s, both speak at once.",
    voices=(
        Voice(program="espeak-ng", name="en-us+f2", rate=160, pitch=52),
        Voice(program="flite", name="awb", rate=0.95, pitch=128),
    ),
    level_dbfs=(-21.0, -22.0),
    noise_dbfs=(None, None),
    turns=(
        _agent("Good morning, you are speaking with Emma.", "How can I help you today?"),
        _customer("Hello, my package has not arrived.", "I have been waiting for three weeks."),
        _agent("I understand your frustration.", "Could you spell your last name?"),
        _customer("My name is Daniel Cooper.", "This is the third time I am calling.", "I am really upset about this."),
        _agent("I am sorry to hear that.", "Can I have your phone number?", gap=-0.9),
        _customer("My phone number is | six zero three | five five one | eight two seven."),
        _agent("Six zero three five five one eight two seven."),
        _customer("Yes, that is correct.", gap=-0.5),
        _agent("Please hold while I pull up your account."),
        Hold(6.5),
        _agent("Thank you for your patience.", "I have found your package.", "I will track the delivery right away."),
        _customer("I would like to speak to a manager.", "I need it before Friday.", gap=-1.2),
        _agent("I understand your frustration.", "I will send the replacement right away."),
        _customer("When will the replacement arrive?", gap=-0.3),
        _agent("You will receive an email within two days.", "I can offer you a twenty percent discount."),
        _customer("That sounds good.", "Could you call me back on Wednesday?"),
        _agent("Yes, that is correct.", "Your reference number is three nine seven | one one four."),
        _customer("Okay, thank you very much.", "Goodbye."),
        _agent("I appreciate your call.", gap=-0.5),
    ),
)

INTERNET = Dialogue(
    name="internet",
    description="A router is restarted; noise on the customer's line, both wait 9 s in silence, then a hold of 6 s.",
    voices=(
        Voice(program="flite", name="rms", rate=1.0, pitch=95),
        Voice(program="espeak-ng", name="en-us+m3", rate=155, pitch=45),
    ),
    level_dbfs=(-20.0, -23.0),
    noise_dbfs=(None, -64.0),
    turns=(
        _agent("Good afternoon, how may I help you?"),
        _customer("Hello, my internet keeps dropping.", "I want to replace my old router."),
        _agent("I am sorry to hear that.", "May I have your account number please?"),
        _customer("It is two zero eight | six six one | four nine three."),
        _agent("I have found your account.", "Could you restart the router for me?"),
        _customer("One moment please."),
        Hold(9.0, kind="silence"),
        _customer("Hello, my router shows an error message."),
        _agent("Let me check that for you.", "Please stay on the line.", gap=-0.7),
        Hold(6.0),
        _agent("Thank you for your patience.", "I will reset the connection right away."),
        _customer("How long will it take?", "I need it before Monday.", gap=-0.4),
        _agent("I understand your frustration.", "That should fix the problem."),
        _customer("What are my options?", "I want to cancel my monthly contract.", gap=-0.8),
        _agent("I can offer you a fifteen percent discount.", "I will upgrade the modem right away."),
        _customer("That sounds good.", "I do not remember my password.", "Can you reset it for me?"),
        _agent(
            "You will receive an email within four days.", "Your reference number is five three zero | seven two eight."
        ),
        _customer("Five three zero seven two eight.", gap=0.3),
        _agent("Yes, that is correct.", "Is there anything else I can help you with?"),
        _customer("Great, thanks for your help.", "Goodbye.", gap=-0.5),
        _agent("I appreciate your call.", "Have a great day."),
    ),
)

DIALOGUES = (BILLING, DELIVERY, INTERNET)
