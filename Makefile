# make              set up the environment, then run the experiment in params.yaml
# make help         everything else
# make EXTRAS=ray   the same with what not everybody needs; it stays installed

PYTHON ?= python3
VENV   := .venv
# What every environment has beyond the dependencies, so that every test can run; more: make EXTRAS="ray …".
USUAL  := audio,bpe,dashboard,dev,grpc,postgresql,slurm
EXTRAS ?=
INSTALLED := $(VENV)/installed $(sort $(EXTRAS:%=$(VENV)/installed-%) $(wildcard $(VENV)/installed-*))
# Not abspath, which splits a path at spaces.
BIN    := $(if $(filter /%,$(VENV)),,$(CURDIR)/)$(VENV)/bin
# So that DVC and its stages use the environment's programs.
export PATH := $(BIN):$(PATH)
# Quote text as one shell word: $(call quoted,it's) is 'it'\''s'.
quoted = '$(subst ','\'',$(1))'

.DEFAULT_GOAL := repro
.PHONY: help repro order promote confirm review dashboard export check layers format test bench lock clean

help:  ## list these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

repro: $(INSTALLED)  ## run the experiment in params.yaml: the stages whose inputs changed (the default)
	@dvc repro
	@echo "Read reports/report.md; compare with: dvc exp show, dvc metrics diff, dvc plots diff"

order: $(INSTALLED)  ## write an experiment into params.yaml: make order EXPERIMENT=mnist_mlp [WITH="key=value …"]
	@python src/order.py $(call quoted,$(EXPERIMENT)) $(WITH)

promote: $(INSTALLED)  ## write a study's best trial into params.yaml: make promote STUDY=name (another: TRIAL=42)
	@python src/promote.py $(call quoted,$(STUDY)) $(call quoted,$(TRIAL)) $(if $(ENSEMBLE),$(call quoted,ensemble=$(ENSEMBLE)))

review: $(INSTALLED)  ## print what changed against a branch, as Markdown: make review [BASE=origin/main]
	@python src/review.py $(call quoted,$(BASE))

confirm: $(INSTALLED)  ## retrain a study's best trials and its baseline with other seeds: make confirm STUDY=name
	@python src/confirm.py $(call quoted,$(STUDY)) $(if $(BEST),$(call quoted,best=$(BEST))) $(if $(SEEDS),$(call quoted,seeds=$(SEEDS))) $(if $(JOBS),$(call quoted,jobs=$(JOBS)))

dashboard: $(INSTALLED)  ## open a study in optuna-dashboard: make dashboard STUDY=name
	@python src/dashboard.py $(call quoted,$(STUDY))

export: $(INSTALLED)  ## write the network and its preprocessing as a torch.export program: make export [MODEL=…]
	@python src/export.py $(if $(MODEL),$(call quoted,model=$(MODEL))) $(if $(OUTPUT),$(call quoted,output=$(OUTPUT)))

check: $(INSTALLED)  ## ruff, mypy and import-linter
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports --no-logo

layers: $(INSTALLED)  ## print the rooms of the package, what each imports, and the number of imports
	@python tests/support/layers.py

test: $(INSTALLED)  ## the whole test suite
	@pytest

bench: $(INSTALLED)  ## compare the speed of trainings and stacks with other trainers (in their own environment)
	@$(MAKE) -C benchmarks PYTHON="$(BIN)/python"

format: $(INSTALLED)  ## fix lint and formatting with ruff
	@ruff check --fix .
	@ruff format .

# Left out of the lock file: packages that torch's CUDA wheels pin exactly. A CPU wheel needs none of them.
TORCH_PINS := ^(nvidia-|cuda-|triton)

lock: $(INSTALLED)  ## update requirements.lock from pyproject.toml
	@uv pip compile --quiet --all-extras --python-version 3.11 --universal --no-header --no-annotate \
		--prerelease if-necessary-or-explicit pyproject.toml | grep -vE '$(TORCH_PINS)' > requirements.new
	@mv requirements.new requirements.lock

clean:  ## remove the environments, the caches and the state of unfinished runs; results are kept
	rm -rf "$(VENV)" .bench-venv runs data/cache .mypy_cache .pytest_cache .ruff_cache

$(VENV)/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv "$(VENV)"
	$(call install,$(USUAL))
	@touch $@

$(VENV)/installed-%: requirements.lock | $(VENV)/installed
	@grep -q '^$* = \[' pyproject.toml \
		|| { echo "EXTRAS=$*: there is no such extra. There are: ray, and what is installed anyway: $(USUAL)"; exit 1; }
	$(call install,$*)
	@touch $@

# Every package in the version of the lock file: $(call install,extra,…).
install = "$(VENV)/bin/pip" install --quiet --disable-pip-version-check --constraint requirements.lock --editable ".[$(1)]"
