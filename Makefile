# make        an environment, then the experiment in params.yaml
# make help   everything else

PYTHON ?= python3
VENV   := .venv
# Not by abspath, which takes a blank in a path for its end.
BIN    := $(if $(filter /%,$(VENV)),,$(CURDIR)/)$(VENV)/bin
# DVC and its stages find the environment's programs first.
export PATH := $(BIN):$(PATH)
# One word for the shell, whatever is in it: $(call quoted,it's) is 'it'\''s'.
quoted = '$(subst ','\'',$(1))'

.DEFAULT_GOAL := repro
.PHONY: help repro order promote confirm review dashboard export check layers format test bench lock clean

help:  ## list these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

repro: $(VENV)/installed  ## run the experiment in params.yaml: whatever has changed of it (the default)
	@dvc repro
	@echo "Read reports/report.md; compare with: dvc exp show, dvc metrics diff, dvc plots diff"

order: $(VENV)/installed  ## write an experiment into params.yaml: make order EXPERIMENT=mnist_mlp [WITH="key=value …"]
	@python src/order.py $(call quoted,$(EXPERIMENT)) $(WITH)

promote: $(VENV)/installed  ## write a study's best trial into params.yaml: make promote STUDY=name (another: TRIAL=42)
	@python src/promote.py $(call quoted,$(STUDY)) $(call quoted,$(TRIAL))

review: $(VENV)/installed  ## print what changed against a branch, as Markdown: make review [BASE=origin/main]
	@python src/review.py $(call quoted,$(BASE))

confirm: $(VENV)/installed  ## train a study's best trials and its baseline with other seeds: make confirm STUDY=name
	@python src/confirm.py $(call quoted,$(STUDY)) $(if $(BEST),$(call quoted,best=$(BEST))) $(if $(SEEDS),$(call quoted,seeds=$(SEEDS))) $(if $(JOBS),$(call quoted,jobs=$(JOBS)))

dashboard: $(VENV)/installed  ## open a study in optuna-dashboard: make dashboard STUDY=name
	@python src/dashboard.py $(call quoted,$(STUDY))

export: $(VENV)/installed  ## write the network and its preparation as one program of torch.export: make export [MODEL=models]
	@python src/export.py $(if $(MODEL),$(call quoted,model=$(MODEL))) $(if $(OUTPUT),$(call quoted,output=$(OUTPUT)))

check: $(VENV)/installed  ## ruff, mypy, and the rooms
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports --no-logo

layers: $(VENV)/installed  ## print the rooms of the package, what each imports, and how many imports that are
	@python tests/support/layers.py

test: $(VENV)/installed  ## the whole test suite
	@pytest

bench: $(VENV)/installed  ## speed of a training and of a stack beside other trainers, which get an environment of their own
	@$(MAKE) -C benchmarks PYTHON="$(BIN)/python"

format: $(VENV)/installed  ## let ruff mend what it can
	@ruff check --fix .
	@ruff format .

# Left out of the lock file: what torch's own wheel pins exactly, where it has CUDA. A CPU wheel needs none of it.
TORCH_PINS := ^(nvidia-|cuda-|triton)

lock: $(VENV)/installed  ## bring requirements.lock up to pyproject.toml
	@uv pip compile --quiet --all-extras --python-version 3.11 --universal --no-header --no-annotate \
		--prerelease if-necessary-or-explicit pyproject.toml | grep -vE '$(TORCH_PINS)' > requirements.new
	@mv requirements.new requirements.lock

clean:  ## remove the environments, the caches and the state of unfinished runs; results stay
	rm -rf "$(VENV)" .bench-venv runs data/cache .mypy_cache .pytest_cache .ruff_cache

$(VENV)/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv "$(VENV)"
	"$(VENV)/bin/pip" install --quiet --disable-pip-version-check --requirement requirements.lock
	"$(VENV)/bin/pip" install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
