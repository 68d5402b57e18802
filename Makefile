# Everything runs in .venv, which the targets set up themselves. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint types format docs book bench evidence tables clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

# The package alone, as a user gets it.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) --editable .
	@touch $@

# Tests, linters and documentation as well.
$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable '.[dev,ray]'
	@touch $@

demo: $(VENV)/installed  ## compare four ways to spend a tenth of the training budget; report in out/demo/report.html
	$(BIN)/aleator compare classify --ratio 0.1 \
	  --variant full:subset=full,schedule_length=compressed \
	  --variant static:subset=static \
	  --variant rs2:subset=rs2 \
	  --variant rs2-with-replacement:subset=rs2-with-replacement \
	  --seeds 5 --out out/demo

# Shapes and types are checked while the tests of functions run. Whole runs, error messages and what is compiled (plain)
# are tested as users run them.
CHECKED := --jaxtyping-packages='aleator,beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))'

# Tests that share a fixture of their file run in one process (tests/conftest.py), and the long files first.
SPREAD := -n auto --dist loadgroup

test: $(VENV)/installed-dev  ## run the tests
	$(BIN)/pytest $(SPREAD) -m 'not plain' $(CHECKED)
	$(BIN)/pytest $(SPREAD) -m plain

lint: $(VENV)/installed-dev  ## style, the storeys of the house, generated tables up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m experiments tables --check

types: $(VENV)/installed-dev  ## mypy, strict
	$(BIN)/mypy

format: $(VENV)/installed-dev  ## format the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(VENV)/installed-dev  ## build the site in docs/_build/html; warnings are errors
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html

book: export ALEATOR_BOOK := run
book: docs  ## the same site, with what the pages of the book print: they are run, a failing one is an error

bench: $(VENV)/installed-dev  ## time ours against named peers; make bench NAME=sampler for one
	$(BIN)/python -m benchmarks $(NAME)

evidence: $(VENV)/installed-dev  ## make evidence METHOD=rs2 runs the experiments behind a method and writes evidence/rs2.json
	$(BIN)/python -m experiments run $(METHOD)
	$(BIN)/python -m experiments tables

tables: $(VENV)/installed-dev  ## write the evidence tables of README and method cards from evidence/
	$(BIN)/python -m experiments tables

clean:  ## remove what the targets made, but not out/ and runs/
	rm -rf $(VENV) docs/_build docs/book/gallery .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
