# `make help` tells what there is. Everything happens in .venv; delete it (`make clean`) to start afresh.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests wait more than they compute, so more of them run at once than there are cores.
PYTEST_ARGS ?=
WORKERS ?= 3
MINUTES ?= 10
# Which message bus the tests run on: mosquitto, or ours if left empty; and the tests that any bus must pass.
BUS ?=
ON_ANY_BUS := tests/integration tests/coherence

.PHONY: help demo test check format bench soak fuzz clean
.DEFAULT_GOAL := help

help:
	@echo "make demo           install into .venv and run the three daemons on an example root, until Ctrl-C"
	@echo "make demo ONCE=1    the same, ending by itself"
	@echo "make test           run all tests (PYTEST_ARGS='-k name' chooses)"
	@echo "make test BUS=mosquitto  the integration and fault tests once more, on Mosquitto as the message bus"
	@echo "make check          ruff, mypy, import-linter"
	@echo "make format         let ruff put the source in order"
	@echo "make bench          measure: a table, and a JSON file in tests/benchmarks/results"
	@echo "make soak           write, read and kill daemons for 10 minutes (MINUTES=n), then more of the state machine"
	@echo "make fuzz           attack the daemons with hostile input for 10 minutes (MINUTES=n SEED=n REFUSED=n)"
	@echo "make clean          remove .venv and what the tools left behind"
	@echo
	@echo "PYTHON=python3.12 chooses the Python that .venv is made of; 3.11 or newer."

demo: $(VENV)/.installed-demo
	@$(BIN)/python -m caterva2.demo $(if $(ONCE),--once)

test: $(VENV)/.installed-tests
	$(if $(BUS),CATERVA2_TEST_BUS=$(BUS)) $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder --durations 12 \
	  $(if $(BUS),$(ON_ANY_BUS)) $(PYTEST_ARGS)

check: $(VENV)/.installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-tests
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-tests
	$(BIN)/python -m tests.benchmarks

soak: $(VENV)/.installed-tests
	$(BIN)/python -m tests.soak --minutes $(MINUTES)
	COHERENCE_EXAMPLES=$$(( $(MINUTES) * 10 )) $(BIN)/python -m pytest --timeout=0 tests/coherence/test_state_machine.py

fuzz: $(VENV)/.installed-tests
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(REFUSED),--refused $(REFUSED))
	SCHEMA_EXAMPLES=$$(( $(MINUTES) * 20 )) $(BIN)/python -m pytest --timeout=0 $(if $(SEED),--hypothesis-seed=$(SEED)) tests/fuzz/test_schema.py

clean:
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp for each set of packages: nothing is installed again until pyproject.toml changes.
# The install is editable, so the source that runs is always the one in this directory.
$(VENV)/.installed-demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[clients,services]'
	@touch $@

$(VENV)/.installed-tests: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[clients,services,tests]'
	@touch $@ $(VENV)/.installed-demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "This needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>/dev/null || echo 'not there')." >&2; \
	  echo "Say which one to use: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
