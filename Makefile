# Every target sets up what it needs in .venv; nothing is installed twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

LOWEST := .venv-lowest
AUDIT := .venv-audit

.PHONY: help demo test test-lowest lint audit docs site bench clean

help:
	@echo "make demo    the whole chain on embedded images, offline; ends with a report to open"
	@echo "make test    all checks and tests"
	@echo "make test-lowest  the tests with the lowest versions that pyproject.toml states"
	@echo "make lint    ruff, mypy, import-linter"
	@echo "make audit   known holes of the installed packages; asks the network"
	@echo "make docs    regenerate the command reference"
	@echo "make site    all pages and the API as a site in site/; asks no other host"
	@echo "make bench   the benchmarks (about half an hour)"
	@echo "make clean   remove the environment and everything made here"

# The stamp depends on what pyproject.toml asks for, so an unchanged checkout installs nothing.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "vggfeat needs Python 3.11 or newer, not $$($(PYTHON) --version). Name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "python3 has no working venv module; on Debian: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable ".[dev]"
	@touch $@

demo: $(READY)
	$(BIN)/vggfeat demo demo

# Programs that tests start do not each compile the package. A file's tests share what they start
# (servers, a Ray cluster), so they stay in one process.
test: lint
	$(BIN)/python -m compileall -q vggfeat
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# Run it with the oldest Python that is supported: newer ones have no wheels of such versions.
test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest --numprocesses 2 --dist loadfile $(TESTS)

$(LOWEST)/.ready: pyproject.toml tests/lowest_versions.py
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) tests/lowest_versions.py pyproject.toml > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --disable-pip-version-check --quiet --editable ".[dev,formats]" --constraint $(LOWEST)/constraints.txt
	@touch $@

audit: $(READY)
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --disable-pip-version-check --quiet pip-audit
	$(BIN)/python -m pip freeze --exclude-editable > $(AUDIT)/installed.txt
	$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip --requirement $(AUDIT)/installed.txt

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/python docs/generate.py

# The warning is of the theme's makers, about other software of theirs.
site: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html. Its search wants a server: $(BIN)/python -m http.server --directory site"

bench: $(READY)
	$(BIN)/python benchmarks/exactness.py
	$(BIN)/python benchmarks/resume.py
	$(BIN)/python benchmarks/weights.py folding
	$(BIN)/python benchmarks/extract.py
	$(BIN)/python benchmarks/cpu_engine.py
	$(BIN)/python benchmarks/engine_errors.py
	$(BIN)/python benchmarks/transfer.py digits
	$(BIN)/python benchmarks/transfer.py speed

clean:
	rm -rf $(VENV) $(LOWEST) $(AUDIT) demo build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
