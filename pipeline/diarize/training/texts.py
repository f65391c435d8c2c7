"""What voices of other languages say; the others say the English sentences of the demo model's training."""

from __future__ import annotations

import random

from pipeline.demo.training.speech import draw_sentence

# Parts of Russian sentences of a call centre, one of each tuple after the other.
RUSSIAN: tuple[tuple[tuple[str, ...], ...], ...] = (
    (
        ("доброе утро", "добрый день", "здравствуйте", "алло", "извините", "скажите пожалуйста"),
        (
            "как я могу вам помочь",
            "я звоню по поводу счёта",
            "мне нужно изменить адрес",
            "я хочу отменить заказ",
            "меня зовут анна",
        ),
    ),
    (
        ("мой заказ", "наш интернет", "новый телефон", "последний счёт", "этот договор", "ваш мастер"),
        ("не работает", "ещё не пришёл", "был оплачен", "мне не нужен", "будет готов", "пока не отвечает"),
        ("со вчерашнего дня", "до пятницы", "через две недели", "с самого утра", "уже третий раз", "на этой неделе"),
    ),
    (
        ("подождите пожалуйста", "одну минуту", "хорошо", "спасибо большое", "да конечно", "нет к сожалению"),
        (
            "я посмотрю ваши данные",
            "сейчас проверю",
            "я записываю номер",
            "мы вам перезвоним",
            "всего доброго",
            "это всё",
        ),
    ),
    (
        ("номер договора", "мой телефон", "номер квартиры", "код доступа", "сумма платежа"),
        ("два семь один", "девять ноль четыре", "шесть три восемь", "пять пять два", "один восемь семь"),
        ("три ноль", "сорок два", "семнадцать", "восемьдесят один", "двести шестнадцать", "тысяча сто"),
    ),
)


def draw_text(language: str, source: random.Random) -> str:
    """Return a sentence in a language, ``en`` or ``ru``."""
    if language == "ru":
        return " ".join(source.choice(parts) for parts in source.choice(RUSSIAN)) + "."
    return draw_sentence(source)
