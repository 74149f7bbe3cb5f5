# `make demo` and `make test` each set up everything they need in .venv (Python 3.11 or newer, nothing else) and run.
# A second call reuses what is there. Options, after the target: VENV=DIR, PYTHON=COMMAND, JOBS=N (processes of the
# tests), TESTS="tests/test_path.py -k snr", TORCH=VERSION, CONSTRAINTS= (empty: the newest of everything),
# PIP_FLAGS="..." (such as another package index).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV ?= .venv
PYTHON ?=
PYTHONS := python3 python3.13 python3.12 python3.11 python
JOBS ?= 2
TESTS ?=
CONSTRAINTS ?= constraints.txt
TORCH ?=
PIP_FLAGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOADTEST := $(VENV)/.loadtest
PIP := $(BIN)/python -m pip --disable-pip-version-check
QUIET := $$([ -t 1 ] || echo --quiet)
LIMITS := $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

NUMERICAL := tests/core tests/nets tests/codecs tests/objectives tests/parity tests/contracts tests/generation \
	tests/training/test_step.py tests/training/test_parallel.py tests/training/test_every_method.py tests/training/test_muon.py

.PHONY: help demo test test-portable setup format lint types imports pytest docs gallery wheel fuzz-api load hostile soak freeze clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS=$$'\t' read -r name text; \
		do printf '  make %-13s %s\n' "$$name" "$$text"; done

demo: $(READY) ## what Unistep can do, in minutes, on this computer
	@$(BIN)/unistep demo

test: lint types imports pytest ## every check: style, types, import directions, tests

setup: $(READY) ## only create the environment

lint: $(READY) ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY) ## basedpyright over src
	@$(BIN)/basedpyright --pythonpath $(BIN)/python

imports: $(READY) ## import-linter: imports go down only
	@$(BIN)/lint-imports --no-logo

# One thread per process: two processes with two threads each are several times slower on two cores.
pytest: $(READY) ## the tests alone
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(TESTS)

# Vector units differ between processors, and with them the order in which sums are rounded.
test-portable: $(READY) ## the numerical tests with each set of vector instructions that PyTorch and oneDNN know
	@for isa in ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 ATEN_CPU_CAPABILITY=avx512 ONEDNN_MAX_CPU_ISA=AVX2; do \
		echo "== $$isa (this processor: $$($(BIN)/python -c 'import torch; print(torch.backends.cpu.get_cpu_capability())'))"; \
		env $$isa OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(or $(TESTS),$(NUMERICAL)); \
	done

docs: $(READY) ## the documentation as HTML in docs/_build/html; tutorials run, warnings are errors
	@OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -q -j auto -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

gallery: $(READY) ## draw the gallery of the documentation from the shipped models
	@$(BIN)/python docs/gallery.py

format: $(READY) ## let ruff rewrite the sources
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

wheel: $(READY) ## build dist/unistep-*.whl
	@$(BIN)/hatchling build -t wheel

fuzz-api: $(LOADTEST) ## Schemathesis: a server of this machine against its own description
	@$(BIN)/python benchmarks/fuzz_api.py

load: $(LOADTEST) ## Locust: fifty clients of a server of this machine for a minute
	@$(BIN)/python benchmarks/load.py

hostile: $(READY) ## ten thousand requests that no honest client sends
	@$(BIN)/python benchmarks/hostile.py

soak: $(READY) ## a server under load for an hour: its memory, and what each client gets
	@$(BIN)/python benchmarks/soak.py

# A local version label (2.13.0+cpu) depends on where the package came from, so it is cut off; nvidia-* and triton
# follow torch's own pins.
freeze: $(READY) ## write what is installed into constraints.txt
	@$(PIP) freeze --exclude-editable > $(VENV)/frozen.txt
	@{ grep '^#' constraints.txt; grep -vE '^(nvidia-|cuda-|triton|#)' $(VENV)/frozen.txt | sed -E 's/\+[a-z0-9.]+$$//'; } \
		> $(VENV)/constraints.txt
	@mv $(VENV)/constraints.txt constraints.txt

clean: ## remove the environment and build outputs
	@rm -rf $(VENV) dist build .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# The stamp is written last, so an interrupted set-up is taken up again. torch comes first: it is by far the largest.
$(READY): pyproject.toml examples/plugin/pyproject.toml $(CONSTRAINTS)
	@rm -f $@
	@good='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(BIN)/python -c "import sys, pip; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then \
		for python in $(or $(PYTHON),$(PYTHONS)); do \
			if "$$python" -c "$$good" 2>/dev/null; then found="$$python"; break; fi; \
		done; \
		if [ -z "$${found:-}" ]; then \
			echo "Unistep needs Python 3.11 or newer with its venv module; none of these has it:" >&2; \
			for python in $(or $(PYTHON),$(PYTHONS)); do \
				echo "  $$python: $$("$$python" --version 2>/dev/null || echo not found)" >&2; \
			done; \
			echo "Install one (on Debian and Ubuntu the package python3-venv too)," >&2; \
			echo "or name it: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3.12" >&2; \
			exit 1; \
		fi; \
		echo "Creating $(VENV) with $$("$$found" --version)"; \
		"$$found" -m venv --clear $(VENV); \
	fi
	@echo "Installing PyTorch, then Unistep with its tools, into $(VENV) (a few minutes, once)"
	@$(PIP) install $(QUIET) $(PIP_FLAGS) $(LIMITS) $(if $(TORCH),torch==$(TORCH),torch) hatchling editables
	@$(PIP) install $(QUIET) $(PIP_FLAGS) $(LIMITS) --no-build-isolation -e '.[dev]' $(if $(TORCH),torch==$(TORCH))
	@$(PIP) install $(QUIET) $(PIP_FLAGS) --no-deps --no-build-isolation -e examples/plugin
	@touch $@

$(LOADTEST): $(READY)
	@echo "Installing Schemathesis and Locust into $(VENV)"
	@$(PIP) install $(QUIET) $(PIP_FLAGS) $(LIMITS) --no-build-isolation -e '.[loadtest]'
	@touch $@
