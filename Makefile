# make run [STUDY=config/studies/x.yaml] [ARGS="--until train_base"]     make test     make studies
STUDY  ?= config/config.yaml
PYTHON ?= python3
BIN    := .venv/bin
study_flags = $(if $(filter %.json,$(STUDY)),--config jobs='$(STUDY)',--configfile '$(STUDY)')

.PHONY: run test test-kill studies lint clean-venv

run: .venv/installed
	@$(BIN)/python workflow/scripts/generate_jobs.py --configfile '$(STUDY)' > /dev/null
	@$(BIN)/snakemake --profile local $(study_flags) $(ARGS)

test: .venv/installed-dev
	@$(BIN)/python -m pytest -n 2 $(ARGS)

test-kill: .venv/installed-dev
	@KILLS=$(or $(KILLS),200) $(BIN)/python -m pytest tests/test_kill.py -s

studies: .venv/installed
	@$(BIN)/python workflow/scripts/list_studies.py

lint: .venv/installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Rootstock needs Python 3.11 or newer: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean-venv:
	rm -rf .venv
