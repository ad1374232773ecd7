# Everything starts here: `make run` does the main job, `make test` passes, each with no step before it.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
STAMP := $(VENV)/.installed

# Empty, it is as unset; where it is set, each of a run's processes would compile every package anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test lint format lock clean

run: $(STAMP)  ## the main job: Table 1 from the embedded corpus
	$(VENV)/bin/stemwright reproduce --scale laptop

test: $(STAMP)  ## all tests, each file on one core
	$(VENV)/bin/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)  ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(STAMP)  ## rewrite to our style
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

$(STAMP): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "Stemwright needs Python 3.11 or 3.12; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet uv
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --requirement requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --no-deps --editable .
	touch $(STAMP)

lock: $(STAMP)  ## resolve every transitive version anew
	$(VENV)/bin/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --quiet \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file requirements.lock

clean:  ## forget the environment; results in workspace/ stay
	rm -rf $(VENV)
