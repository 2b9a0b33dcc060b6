# SPDX-License-Identifier: GPL-3.0-or-later
SYSTEM_PYTHON ?= python3
# asked for only when a target uses it; before `make setup` it names where the environment will be
PY = $(shell $(SYSTEM_PYTHON) host_setup/setup_host.py --print-python)
HOST = $(shell $(SYSTEM_PYTHON) host_setup/setup_host.py --print-host)

IMAGE ?=
INSTRUCTION ?=
SEED ?=
OUT ?= output/demo
PORT ?= 8188
BUDGET ?= 3h
ARGS ?=
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-fast mutants golden lint bench train-tiny trainer trainer-status trainer-stop clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## find or fetch ComfyUI and a Python environment, link the pack (again: under a second)
	@$(SYSTEM_PYTHON) host_setup/setup_host.py

demo: setup ## edit the bundled pictures, or IMAGE=my.png INSTRUCTION="remove the cat" [SEED=1] [OUT=folder]
	@$(PY) -m fireedit_cli.demo $(if $(IMAGE),--image "$(IMAGE)") $(if $(INSTRUCTION),--instruction "$(INSTRUCTION)") \
		$(if $(SEED),--seed $(SEED)) --out "$(OUT)" $(ARGS)

serve: setup ## run ComfyUI with the pack on 127.0.0.1, PORT=8188 (on the CPU when there is no GPU)
	@cd "$(HOST)" && exec "$(PY)" main.py --listen 127.0.0.1 --port $(PORT) \
		$$("$(PY)" "$(CURDIR)/host_setup/host_lookup.py") $(ARGS)

test: setup ## all tests (core, a real ComfyUI server, the browser) in WORKERS=2 processes; ARGS="-k name" narrows
	@# a thread per process: two processes with two threads each on two cores wait for each other
	@# the long files first, in this order and not by their number of tests: at the end no core waits for the other. pytest takes
	@# tests/core as one place and sorts it, so each of its places is named
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		$(wildcard tests/host tests/browser tests/core/training) \
		$(filter-out %/training %/conftest.py %/__pycache__,$(wildcard tests/core/*)) $(ARGS)

test-fast: setup ## what to run while working: the core without what is slow, two minutes on two cores
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile -m "not slow" tests/core $(ARGS)

mutants: setup ## put realistic faults into a copy of the tree and see which ones the tests see; ARGS="--room nodes --sample 0"
	@OMP_NUM_THREADS=1 FIREEDIT_HOST="$(HOST)" $(PY) -m tests.mutants $(ARGS)

lint: setup ## ruff over everything
	@$(PY) -m ruff check . $(ARGS)

golden: setup ## write down anew what the embedded bundle gives (new weights); prints the differences, ARGS="--check" only that
	@OMP_NUM_THREADS=1 FIREEDIT_HOST="$(HOST)" $(PY) -m tests.golden $(ARGS)

bench: setup ## seconds per stage, warm server, and the ratio to the diffusers pipeline
	@$(PY) -m benchmarks $(ARGS)

train-tiny: setup ## train the embedded default from scratch within a wall-clock BUDGET=3h
	@$(PY) -m fireedit_core.training --budget "$(BUDGET)" $(ARGS)

trainer: setup ## start the endless training of fireedit-tiny in the background, or go on; it yields to everything else
	@mkdir -p .cache/runs/tiny
	@# Linux may weigh sessions first and nice values only within one (autogroup), so it gets a session of its own that yields as a whole
	@TORCHINDUCTOR_CACHE_DIR="$(CURDIR)/.cache/inductor" nohup $(shell command -v setsid) nice -n 19 \
		sh -c '{ echo 19 > /proc/self/autogroup; } 2> /dev/null; exec "$$@"' trainer $(PY) -m fireedit_core.training.endless run $(ARGS) \
		>> .cache/runs/tiny/log 2>&1 & echo "training in the background: make trainer-status, make trainer-stop"

trainer-status: ## looks so far, looks per second, the last validation, power between rows
	@$(PY) -m fireedit_core.training.endless status $(ARGS)

trainer-stop: ## save and stop the endless training; make trainer goes on with the next step
	@$(PY) -m fireedit_core.training.endless stop $(ARGS)

clean: ## remove outputs and Python caches (.cache, with ComfyUI and its environment, stays)
	@rm -rf output .pytest_cache .ruff_cache
	@find . -path ./.cache -prune -o -name __pycache__ -type d -exec rm -rf {} +
