"""The 320 words that the demo model was taught, as the sentence templates and word lists it was trained on.

Templates hold fields in braces; `FIELDS` says what may stand in each. A sentence outside these templates may use the
same words, but the model hears it less well.
"""

# ruff: noqa: SIM905 - lists of words read best as text

from __future__ import annotations

import re
from collections.abc import Mapping

DIGITS = tuple("zero one two three four five six seven eight nine".split())
NAMES = tuple(
    "Anna Martin Sarah Johnson Michael Brown David Miller Emma Wilson James Taylor Olivia Thomas Daniel Moore "
    "Laura White Peter Harris Julia Clark Robert Lewis Sophie Walker Kevin Young Maria Garcia Alice Cooper Brian "
    "Scott".split()
)
MONTHS = tuple("January February March April May June July August September October November December".split())
WEEKDAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
THINGS = tuple(
    "order account bill invoice refund payment router modem phone internet connection subscription contract delivery "
    "package parcel ticket card password email address bank statement insurance policy claim flight booking "
    "reservation appointment line service plan device battery screen replacement warranty charger cable "
    "television signal".split()
)
ADJECTIVES = tuple(
    "new old broken slow late missing wrong double extra monthly annual last next first second third final pending "
    "damaged different correct".split()
)
VERBS = tuple(
    "cancel change check update confirm return replace reset upgrade move pay close open verify review schedule track "
    "repair transfer send".split()
)
ORDINALS = tuple("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split())
NUMBERS = tuple(
    "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty "
    "seventy eighty ninety".split()
)
PROBLEMS = (
    "is not working",
    "has not arrived",
    "keeps dropping",
    "was charged twice",
    "is too expensive",
    "does not turn on",
    "stopped working yesterday",
    "is very slow",
    "was never delivered",
    "looks wrong to me",
    "shows an error message",
    "has been delayed again",
)

FIELDS: Mapping[str, tuple[str, ...]] = {
    "name": NAMES,
    "thing": THINGS,
    "verb": VERBS,
    "adjective": ADJECTIVES,
    "problem": PROBLEMS,
    "month": MONTHS,
    "weekday": WEEKDAYS,
    "ordinal": ORDINALS,
    "count": DIGITS[2:],
    "number": NUMBERS,
    "digits": DIGITS,  # three to nine of them
}

AGENT = (
    "Thank you for calling customer support.",
    "How can I help you today?",
    "My name is {name}.",
    "May I have your account number please?",
    "Could you spell your last name?",
    "Let me check that for you.",
    "One moment please.",
    "I am sorry to hear that.",
    "I understand your frustration.",
    "Can you confirm your date of birth?",
    "I have found your {thing}.",
    "I will {verb} the {thing} right away.",
    "Is there anything else I can help you with?",
    "Thank you for your patience.",
    "Have a great day.",
    "Please stay on the line.",
    "I am going to transfer your call to the billing department.",
    "You will receive an email within {count} days.",
    "The refund will take {count} business days.",
    "Your reference number is {digits}.",
    "This call may be recorded for quality purposes.",
    "Let me put you on hold for a minute.",
    "Good morning, you are speaking with {name}.",
    "Good afternoon, how may I help you?",
    "Can I have your phone number?",
    "I can offer you a {number} percent discount.",
    "That should fix the problem.",
    "Could you restart the {thing} for me?",
    "Please hold while I pull up your account.",
    "I appreciate your call.",
)

CUSTOMER = (
    "Hello, my {thing} {problem}.",
    "Hi, I am calling about my {thing}.",
    "I want to {verb} my {adjective} {thing}.",
    "My account number is {digits}.",
    "It is {digits}.",
    "My name is {name} {name}.",
    "Yes, that is correct.",
    "No, that is not right.",
    "I have been waiting for {count} weeks.",
    "I would like to speak to a manager.",
    "This is the {adjective} time I am calling.",
    "Can you {verb} it for me?",
    "I was born on {month} {ordinal}.",
    "Okay, thank you very much.",
    "That sounds good.",
    "I am very happy with the service.",
    "I am really upset about this.",
    "How long will it take?",
    "When will the {thing} arrive?",
    "I need it before {weekday}.",
    "The total was {number} dollars.",
    "I already paid the {thing} in {month}.",
    "Could you call me back on {weekday}?",
    "My phone number is {digits}.",
    "I do not remember my password.",
    "What are my options?",
    "Can I get a refund?",
    "You charged me {number} dollars for the {thing}.",
    "Goodbye.",
    "Great, thanks for your help.",
)


def vocabulary() -> frozenset[str]:
    """Return every word the model was taught, in lower case."""
    fixed = " ".join(re.sub(r"\{\w+\}", " ", template) for template in AGENT + CUSTOMER)
    filled = " ".join(word for words in FIELDS.values() for word in words)
    return frozenset(re.findall(r"[a-z]+", f"{fixed} {filled}".lower()))
