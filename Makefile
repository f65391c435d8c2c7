# Two commands do everything on a fresh machine: `make demo` and `make test`. Both are idempotent.
VENV    := .venv
BIN     := $(VENV)/bin
PYTHON  ?= $(shell for p in python3.11 python3.12 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] <= (3,12))' 2>/dev/null && echo $$p && break; done)
UV      := $(BIN)/uv
export UV_PYTHON_DOWNLOADS=never
export UV_SYSTEM_CERTS=true

.PHONY: help demo test test-fast check demo-model segmentation-model lock setup setup-dev setup-full clean

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

demo: setup      ## set up and run the main job: shipped calls through the whole system
	@$(BIN)/callscribe demo $(ARGS)

test: setup-full ## set up everything and run every check and test
	@$(BIN)/python tests/run.py --full

test-fast: setup-dev  ## the checks and tests that need no broker, no torch (under 60 s)
	@$(BIN)/python tests/run.py

check: setup-dev ## lint, types, layer rules, generated files
	@$(BIN)/python tests/run.py --checks-only

demo-model: setup-full  ## make the demo model again in .work/demo-model: speech, training (3.5 h), conversion, evaluation
	@$(BIN)/python -m pipeline.demo.training all $(ARGS)

segmentation-model: setup-full  ## make the segmentation model again in .work/segmentation-training: speech, examples, training (45 min), evaluation
	@$(BIN)/python -m pipeline.diarize.training all $(ARGS)

setup:      $(VENV)/.base   ## install what running callscribe needs
setup-dev:  $(VENV)/.dev
setup-full: $(VENV)/.full

$(UV):
	@if [ -z "$(PYTHON)" ]; then echo "callscribe needs Python 3.11 or 3.12 on the PATH (with the venv module); found: $$(python3 --version 2>&1)"; exit 3; fi
	@case "$$(uname -s)-$$(uname -m)" in Linux-x86_64|Linux-aarch64|Darwin-arm64) ;; *) echo "callscribe needs Linux x86_64 (Linux aarch64 and macOS arm64 should work); this is $$(uname -s) $$(uname -m)"; exit 3;; esac
	@echo "creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot create a virtual environment: install its venv module (Debian: python3-venv)"; exit 3; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

# A profile is a superset of the one before it, locked together, so installing a larger one changes no version.
$(VENV)/.base: requirements/base.txt pyproject.toml | $(UV)
	@echo "installing callscribe (about 700 MB on disk)"
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --require-hashes -r requirements/base.txt
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation --offline -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.base
	@echo "installing test tools"
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.full: requirements/full.txt $(VENV)/.dev
	@echo "installing torch, pyannote.audio and diart (about 7.5 GB on disk)"
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --require-hashes -r requirements/full.txt
	@touch $@

lock: | $(UV)    ## resolve and lock every install profile again
	@UV=$(UV) sh requirements/lock.sh

clean:           ## remove the environment and the local work folder
	rm -rf $(VENV) .work
