# Everything a person or a machine does with this repository. `make help` lists it.
# Needs make and Python 3.11 or newer (with venv). All else goes into .venv; nothing outside this folder is touched.

PYTHON ?= python3
VENV := .venv
FLOW := notebooks/flows/nycflights.flow.yaml
TEST_WORKERS ?= 2
TEST_ARGS ?=

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
EXE := .exe
else
BIN := $(VENV)/bin
EXE :=
endif
PY := $(BIN)/python$(EXE)
STAMPS := $(VENV)/.stamps

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PYTHONUTF8 := 1
# A virtual environment that happens to be active must not decide what runs here.
unexport VIRTUAL_ENV
unexport PYTHONPATH
unexport PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help demo test check dev build bench bench-full clean distclean
.DELETE_ON_ERROR:

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- environments: one stamp per extra, redone when pyproject.toml changes ---------------------------------------------

OLD_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

$(PY):
	@for python in "$(PYTHON)" python3.13 python3.12 python3.11 python3.14 python; do \
	    if "$$python" -c '$(OLD_ENOUGH)' >/dev/null 2>&1; then \
	        echo "creating $(VENV) with $$("$$python" -V)"; \
	        "$$python" -m venv $(VENV) || { rm -rf $(VENV); \
	            echo "error: '$$python -m venv' failed; install Python's venv module (on Debian: python3-venv)" >&2; exit 1; }; \
	        exit 0; \
	    fi; \
	done; \
	echo "error: FlowBuilder needs Python 3.11 or newer; '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1 | head -n 1)." \
	    "Install one, or say where it is: make PYTHON=/path/to/python3.11" >&2; \
	exit 1

# $(1): extra, $(2): the extras it contains, whose stamps it renews too
define install
	@echo "installing flowbuilder[$(1)] into $(VENV)"
	@$(PY) -m pip install --quiet --editable '.[$(1)]' </dev/null
	@mkdir -p $(STAMPS) && touch $(foreach extra,$(2) $(1),$(STAMPS)/$(extra))
endef

$(STAMPS)/demo: pyproject.toml flowbuilder/_version.py | $(PY)
	$(call install,demo,)

$(STAMPS)/test: pyproject.toml flowbuilder/_version.py | $(PY)
	$(call install,test,demo)

$(STAMPS)/bench: pyproject.toml flowbuilder/_version.py | $(PY)
	$(call install,bench,)

$(STAMPS)/dev: pyproject.toml flowbuilder/_version.py | $(PY)
	$(call install,dev,demo test bench)

# --- commands -------------------------------------------------------------------------------------------------------------

demo: $(STAMPS)/demo ## install, run the example on real flights data, kill and resume it
	@echo "== flowbuilder run $(FLOW)"
	@$(BIN)/flowbuilder run $(FLOW) </dev/null
	@echo
	@echo "== What came out"
	@$(PY) notebooks/show_result.py
	@echo
	@echo "== The same run again, killed with kill -9 in the middle"
	@$(PY) notebooks/kill_and_resume.py $(FLOW) by_weather
	@$(BIN)/flowbuilder runs list --limit 5 </dev/null
	@echo
	@echo "== flowbuilder run --resume latest: what is settled is not executed again"
	@$(BIN)/flowbuilder run --resume latest --assume rerun </dev/null

test: $(STAMPS)/test ## run all tests (TEST_ARGS='-k name' narrows them down)
	@$(PY) -m pytest -n $(TEST_WORKERS) $(TEST_ARGS) </dev/null

check: $(STAMPS)/dev ## run the gates: lint, format, types, layers, docstrings, links
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy --no-error-summary
	$(BIN)/mypy --no-error-summary tests/api/typing_usage.py
	$(BIN)/lint-imports --no-logo
	@echo "$(BIN)/numpydoc lint" && git ls-files -z 'flowbuilder/*.py' | xargs -0 $(BIN)/numpydoc lint
	$(PY) -m pytest --quiet tests/repository/test_links.py </dev/null

dev: $(STAMPS)/dev ## install everything needed to work on FlowBuilder
	@echo "ready: source $(BIN)/activate"

build: $(STAMPS)/dev ## build the wheel and the source distribution into dist/
	@rm -rf dist
	@$(PY) -m build --outdir dist . </dev/null

bench: $(STAMPS)/bench ## measure the quick set (under 10 minutes) and rewrite benchmarks/README.md
	@$(PY) -m benchmarks run --quick </dev/null

bench-full: $(STAMPS)/bench ## measure everything and rewrite benchmarks/README.md
	@$(PY) -m benchmarks run </dev/null

clean: ## delete build products and caches, keep the environment
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -not -path '*/node_modules/*' -prune -exec rm -rf {} +

distclean: clean ## delete the environment and the recorded runs of the examples too
	@rm -rf $(VENV) .flowbuilder notebooks/.flowbuilder notebooks/flows/.flowbuilder
