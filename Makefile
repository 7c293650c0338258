# make run [STUDY=config/studies/x.yaml] [CONFIG=train_bases=false] [ARGS=bases]     make check [STUDY=…]     make test     make bench     make studies     make docs
# Tools run as `python -m …`, which still works in a project that was moved: commands in .venv/bin name the old folder.
STUDY  ?= config/config.yaml
PYTHON ?= python3
BIN    := .venv/bin
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check
jobs = $(if $(filter %.json,$(STUDY)),jobs='$(STUDY)')
study_flags = $(if $(jobs),,--configfile '$(STUDY)') $(if $(strip $(jobs) $(CONFIG)),--config $(jobs) $(CONFIG))
generate = $(BIN)/python workflow/scripts/generate_jobs.py --configfile '$(STUDY)'
again = $(MAKE) --no-print-directory
install_task = task=$$($(generate) --task) && { $(again) --question .venv/installed-$$task || $(again) .venv/installed-$$task; }
extras = $(wildcard requirements-*.txt)
TARGETS := help run check test test-kill bench studies docs lint clean-venv

# Without STUDY=, make would take a study for a target, and run the default study in its place.
odd = $(firstword $(filter-out $(TARGETS) .venv/%,$(MAKECMDGOALS)))
$(if $(odd),$(error $(odd) is no target; a study is named by STUDY=: make $(firstword $(filter $(TARGETS),$(MAKECMDGOALS)) run) STUDY=$(odd)))

.PHONY: $(TARGETS)
.DEFAULT_GOAL := help

help:
	@sed -n '1s/^# //p' $(firstword $(MAKEFILE_LIST))

run: .venv/installed
	@$(install_task)
	@$(BIN)/python -m snakemake --profile local $(ARGS) $(study_flags)

# Find what the jobs would reject, before the first one runs; train nothing.
check: .venv/installed
	@$(install_task)
	@$(generate) --check $(if $(strip $(CONFIG)),--config $(CONFIG))

test: .venv/installed-tests
	@$(BIN)/python -m pytest -n 6 $(ARGS)

test-kill: .venv/installed-tests
	@KILLS=$(or $(KILLS),200) $(BIN)/python -m pytest tests/test_kill.py -s $(ARGS)

# BENCH=name runs one benchmark; ARGS=--full runs them at full size.
bench: .venv/installed-tests
	@$(BIN)/python benchmarks/bench.py $(BENCH) $(ARGS)

studies: .venv/installed
	@$(BIN)/python workflow/scripts/list_studies.py

# Build the documentation site in build/site.
docs: .venv/installed-docs
	@$(BIN)/python docs/site_of_documents.py

lint: .venv/installed-tests
	$(BIN)/python -m ruff check . && $(BIN)/python -m ruff format --check . && $(BIN)/python -m snakefmt --check Snakefile workflow
	$(BIN)/python -m basedpyright
	$(BIN)/python -m snakemake --lint

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Rootstock needs Python 3.11 or newer: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PIP) -r requirements.txt
	@touch $@

# The packages that only one task needs: requirements-<task>.txt, if it exists.
.venv/installed-%: .venv/installed $(extras)
	$(if $(wildcard requirements-$*.txt),$(PIP) -r requirements-$*.txt)
	@touch $@

.venv/installed-tests: .venv/installed $(extras)
	$(PIP) $(extras:%=-r %)
	@touch $@

clean-venv:
	rm -rf .venv
