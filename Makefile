# Each target makes .venv by itself from constraints.txt; nothing else needs to be installed than Python, git and make.
.PHONY: report test bench browser docs clean
.DEFAULT_GOAL := report

BIN := .venv/bin
# The first interpreter on the path that is new enough and can make environments.
PYTHON = $(shell for python in python3.11 python3 python3.12 python3.13 python; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$python && break; done)
INSTALL = $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt

report: .venv/installed
	@$(BIN)/fcx report

# The tests need the extras bench, for Quantus, search, distributed and onnx. One of them that is skipped is printed with its
# reason.
test: .venv/installed-bench
	@$(BIN)/ruff format --check --quiet . || { echo "make test: run .venv/bin/ruff format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports --no-logo --no-cache
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

bench: .venv/installed-bench
	@OMP_NUM_THREADS=1 $(BIN)/pytest -o python_files='bench_*.py' tests/benchmarks

browser: .venv/installed
	@$(BIN)/python tests/browser/check_reports.py reports
	@$(BIN)/python tests/browser/check_explorer.py

# The documentation site, and the commands in it that take minutes.
docs: .venv/installed-docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean --strict --quiet
	@OMP_NUM_THREADS=1 $(BIN)/pytest -o python_files='check_*.py' tests/docs
	@echo $(CURDIR)/site/index.html

# What make made, and caches. runs/ (trainings) and reports/README.md stay.
clean:
	@test ! -d reports || find reports -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
	@rm -rf .venv build dist site .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "fcx needs Python 3.11 or newer with its venv module; \
	the newest found here is: $$(python3 --version 2>&1)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "installing what fcx needs into .venv (about 2 GB the first time, some minutes)" >&2
	@$(INSTALL) -e '.[dev,explore]'
	@! git rev-parse --git-dir >/dev/null 2>&1 || git config filter.fcx-notebook.clean '.venv/bin/python .ci/strip_outputs.py'
	@touch $@

.venv/installed-bench: .venv/installed
	@$(INSTALL) -e '.[bench,search,distributed,onnx]'
	@touch $@

.venv/installed-docs: .venv/installed
	@$(INSTALL) -e '.[docs]'
	@touch $@
