# netbpf: `make help` lists what can be made. `make demo` and `make test` set the machine up first.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Debian's own interpreter: the one that sees python3-bpfcc and the one CI has.
PYTHON ?= /usr/bin/python3
# The oldest clang that is supported makes the shipped programs, so that old verifiers take them too.
CLANG ?= $(firstword $(foreach c,clang-14 clang,$(if $(shell command -v $(c)),$(c))) clang)
LLVM_STRIP ?= $(firstword $(foreach c,llvm-strip-14 llvm-strip,$(if $(shell command -v $(c)),$(c))))
LINT_CLANGS ?= clang-14 clang-19
# Tests wait for the kernel (grace periods, timers) half of their time.
JOBS ?= $(shell echo $$((2 * $$(nproc))))
# How often `make soak` runs them.
RUNS ?= 20
# More words for pytest, e.g. make test ARGS='tests/unit -k btf'
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.netbpf-installed

SOURCES := $(wildcard xdp/*.bpf.c tc/*.bpf.c tracing/*.bpf.c)
OBJECTS := $(patsubst %.bpf.c,netbpf/_objects/%.bpf.o,$(notdir $(SOURCES)))
C_FILES := $(SOURCES) $(wildcard netbpf/include/netbpf/*.h)
# Clang's bpf target knows nothing of Debian's multiarch directory, where <asm/types.h> is.
BPF_CFLAGS := -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -Inetbpf/include \
	$(addprefix -idirafter ,$(wildcard /usr/include/$(shell uname -m)-linux-gnu)) \
	-ffile-prefix-map=$(CURDIR)=.

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# ------------------------------------------------------------------------------------------- set-up

.PHONY: setup
setup: system $(STAMP) bpf ## Install what is missing (needs root), make .venv and the programs

.PHONY: system
system:
	@tools/install-packages.sh

$(STAMP): pyproject.toml | system
	@echo "setup: $(VENV) from $$($(PYTHON) --version)"
	@$(BIN)/python -c '' 2>/dev/null || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --root-user-action=ignore 'pip>=25.1'
	@$(BIN)/python -m pip install -qq --root-user-action=ignore --editable '.[test]' --group dev
	@touch $@

# ----------------------------------------------------------------------------------------- programs

.PHONY: bpf
bpf: $(OBJECTS) ## Compile xdp/, tc/ and tracing/ into netbpf/_objects/
	@rm -f $(filter-out $(OBJECTS),$(wildcard netbpf/_objects/*.bpf.o))

define compile
@command -v $(CLANG) >/dev/null || { echo "make: $(CLANG) not found: run 'make setup' as root" >&2; exit 1; }
@mkdir -p build/bpf $(@D)
@echo "  $(CLANG) $<"
@$(CLANG) $(BPF_CFLAGS) -MMD -MP -MF build/bpf/$*.d -MT $@ -c $< -o build/bpf/$*.bpf.o
@$(if $(LLVM_STRIP),$(LLVM_STRIP) -g build/bpf/$*.bpf.o)
@mv build/bpf/$*.bpf.o $@
endef

netbpf/_objects/%.bpf.o: xdp/%.bpf.c Makefile
	$(compile)

netbpf/_objects/%.bpf.o: tc/%.bpf.c Makefile
	$(compile)

netbpf/_objects/%.bpf.o: tracing/%.bpf.c Makefile
	$(compile)

-include $(wildcard build/bpf/*.d)

# ---------------------------------------------------------------------------------------- run it

.PHONY: demo
demo: setup ## Two namespaces, real packets, exact counts; leaves nothing behind (needs root)
	@$(BIN)/python tools/demo.py

.PHONY: test
test: setup ## Run every test; none may be skipped (needs root)
	@[ "$$(id -u)" = 0 ] || { echo "make: the tests attach programs: run 'make test' as root," \
		"or 'make unit' without" >&2; exit 1; }
	NETBPF_REQUIRE_ALL=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

.PHONY: soak
soak: setup ## Run every test RUNS times in a row (20), and name what did not pass each time (needs root)
	@$(BIN)/python tools/soak.py --runs $(RUNS) -n $(JOBS) --dist worksteal $(ARGS)

.PHONY: unit
unit: $(STAMP) bpf ## Run the tests that need no root
	$(BIN)/python -m pytest tests/unit $(ARGS)

# The programs' own tests, nothing else: what they do not reach is named, and too little of it fails.
.PHONY: coverage
coverage: setup ## Which lines of xdp/ and tc/ their own tests reach; pages in build/coverage (needs root)
	$(BIN)/python -m pytest tests/programs -n $(JOBS) --dist worksteal --netbpf-coverage \
		$(addprefix --netbpf-coverage-source=,xdp tc netbpf/include) --netbpf-coverage-min=95 \
		--netbpf-coverage-html=build/coverage --netbpf-coverage-lcov=build/coverage.info $(ARGS)

.PHONY: bench
bench: setup ## Measure netbpf against its peers, side by side (needs root)
	@$(BIN)/python -m benchmarks $(ARGS)

# -------------------------------------------------------------------------------------- house rules

.PHONY: lint lint-style lint-format lint-types lint-layers lint-c
lint: lint-style lint-format lint-types lint-layers lint-c ## ruff, mypy --strict, import-linter, clang-format, clang 14 and 19

lint-style: | $(STAMP)
	$(BIN)/ruff check --output-format concise .

lint-format: | $(STAMP)
	$(BIN)/ruff format --check --output-format concise .

lint-types: | $(STAMP)
	$(BIN)/mypy --strict

lint-layers: | $(STAMP)
	$(BIN)/lint-imports --no-logo

# Some warnings appear only when code is made, so it is made, and thrown away.
lint-c: | $(STAMP)
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)
	@for clang in $(LINT_CLANGS); do \
		for source in $(SOURCES); do \
			$$clang $(BPF_CFLAGS) -c $$source -o /dev/null; \
		done; \
		echo "$$clang -Wall -Wextra -Werror: $(words $(SOURCES)) programs"; \
	done

.PHONY: fmt
fmt: | $(STAMP) ## Format Python and C, apply ruff's safe fixes
	$(BIN)/ruff check --quiet --fix-only .
	$(BIN)/ruff format --quiet .
	$(BIN)/clang-format -i $(C_FILES)

# ------------------------------------------------------------------------------------------ package

.PHONY: wheel
wheel: $(STAMP) ## Build sdist and wheel into dist/
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist

.PHONY: clean
clean: ## Remove everything made, except .venv
	rm -rf build dist netbpf/_objects .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
