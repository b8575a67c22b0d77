# Everything runs in .venv, made from requirements.txt on first use. Needed: Python ≥ 3.11 and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ROWS   ?= 1000000
PG     ?=
MODE   ?=
DISTRIBUTION ?=
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench soak lab lock clean prisma-check liquibase-check airflow-check

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/installed ## Migrate the sample database on an embedded PostgreSQL, and show the report's path
	@$(BIN)/runbook demo

test: $(VENV)/installed lint ## Run the linters and the whole test suite
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(VENV)/installed ## Check style and types
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy

format: $(VENV)/installed ## Put the code into its format
	$(BIN)/ruff format src tests bench
	$(BIN)/ruff check --fix src tests bench

bench: $(VENV)/installed ## Measure beside the plan's SQL (ROWS= PG=15|16|18 MODE=atomic|online DISTRIBUTION=real|even)
	$(BIN)/python -m bench --rows $(ROWS) $(if $(PG),--pg $(PG)) $(if $(MODE),--mode $(MODE)) \
	  $(if $(DISTRIBUTION),--distribution $(DISTRIBUTION)) $(ARGS)

soak: $(VENV)/installed ## Run the tests that take too long for every change
	$(BIN)/python -m pytest -n 2 --dist worksteal -m soak $(ARGS)

prisma-check: $(VENV)/installed .prisma/installed ## Hold migration and rollback against the real Prisma (npm)
	RUNBOOK_PRISMA=$(CURDIR)/.prisma $(BIN)/python -m pytest -n 2 tests/prisma $(ARGS)

liquibase-check: $(VENV)/installed .liquibase/installed ## Have the real Liquibase run its changelog (npm, Java)
	RUNBOOK_LIQUIBASE=$(CURDIR)/.liquibase $(BIN)/python -m pytest tests/liquibase $(ARGS)

airflow-check: $(VENV)/installed .airflow/installed ## Run the DAG of docs/airflow by the real Airflow
	RUNBOOK_AIRFLOW=$(CURDIR)/.airflow $(BIN)/python -m pytest tests/airflow $(ARGS)

# Airflow's dependencies are many, and its own: it gets an environment, and the package as a wheel.
.airflow/installed: $(VENV)/installed
	$(PYTHON) -m venv --clear .airflow
	.airflow/bin/python -m pip install --quiet --disable-pip-version-check "apache-airflow>=3" \
	  apache-airflow-providers-papermill .
	@touch $@

.prisma/installed: tests/prisma/app/package.json
.liquibase/installed: tests/liquibase/package.json
.prisma/installed .liquibase/installed:
	@command -v npm >/dev/null || { echo "npm is needed: install Node.js 20 or newer" >&2; exit 1; }
	@mkdir -p $(@D) && cp $< $(@D)
	cd $(@D) && npm install --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error
	@touch $@

lab: .venv-lab/installed ## Open the notebooks in JupyterLab, in an environment of its own
	.venv-lab/bin/jupyter lab --notebook-dir=.

# JupyterLab beside papermill doubles the time that both take to start, so it lives apart; its kernel
# is the runbook's Python.
.venv-lab/installed: $(VENV)/installed
	$(PYTHON) -m venv --clear .venv-lab
	.venv-lab/bin/python -m pip install --quiet --disable-pip-version-check "jupyterlab>=4.2,<5"
	.venv-lab/bin/jupyter labextension disable "@jupyterlab/apputils-extension:announcements"
	$(BIN)/python -m ipykernel install --prefix .venv-lab --name python3 --display-name "Python 3 (runbook)"
	@touch $@

lock: $(VENV)/installed ## Resolve pyproject.toml into requirements.txt anew
	$(BIN)/uv pip compile --universal --python-version 3.11 pyproject.toml --extra embedded --extra lint \
	  --extra fleet --extra pdf --extra s3 --group dev \
	  --no-annotate --no-header --no-emit-index-url --quiet --upgrade -o requirements.txt

clean: ## Remove what the targets above made, reports excepted
	rm -rf $(VENV) .venv-lab .airflow .prisma .liquibase .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/results
