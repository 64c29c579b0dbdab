# Rootsweep on a laptop. Every target sets itself up: it needs make and Python 3.11 to 3.14.

ORG ?= examples/organization.yaml
PORT ?= 4566
PARAMS ?=
AUTO ?=
SEED ?=
SEEDS ?= 200
# The oldest first: what runs there runs on the newer ones.
PYTHON ?= $(firstword $(foreach version,3.11 3.12 3.13 3.14,$(shell command -v python$(version) 2>/dev/null)) $(shell command -v python3 2>/dev/null) python3)

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONPATH := $(CURDIR)/functions

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz year local local-down verify-log check lock clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: .venv/ready ## Sweep a pretend organization, end to end. AUTO=approve|decline|ignore, ORG=file.yaml, PORT=4566
	@python -m local demo --organization "$(ORG)" --port "$(PORT)" --auto "$(AUTO)" --parameters "$(PARAMS)"

test: .venv/ready ## Run all tests, in two processes
	@python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

fuzz: .venv/ready ## Send 10,000 generated requests to the approval page; `make test` sends 2,000
	@FUZZ_EXAMPLES=10000 python -m pytest tests/unit/test_approval_page_fuzz.py

year: .venv/ready ## Live through SEEDS=200 simulated years of daily sweeps, or through the one of SEED=17; `make test` through four
	@$(if $(SEED),YEAR_SEED=$(SEED),YEAR_SEEDS=$(SEEDS)) python -m pytest tests/year/test_year.py

local: .venv/ready ## Leave the stack running in the background. ORG=file.yaml, PORT=4566, PARAMS="Key=Value ..."
	@python -m local up --organization "$(ORG)" --port "$(PORT)" --parameters "$(PARAMS)"

local-down: .venv/ready ## Stop what `make local` started
	@python -m local down

verify-log: .venv/ready ## Check the decision log in BUCKET=name, or a copy in DIR=folder; HEAD=number:hash has to be in it
	@python -m operate.verify_log $(if $(BUCKET),--bucket "$(BUCKET)") $(if $(DIR),--directory "$(DIR)") $(if $(HEAD),--head "$(HEAD)")

check: .venv/ready ## Lint, types, templates, state machines
	ruff check --quiet .
	ruff format --check --quiet .
	mypy
	cfn-lint --non-zero-exit-code warning -- template.yaml member-role.yaml
	python -m pytest --quiet --no-header tests/contract

lock: .venv/ready ## Resolve the pinned packages anew
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-emit-index-url \
		--no-header --no-annotate --quiet --upgrade requirements-dev.in --output-file requirements-dev.txt
	cd functions && uv pip compile --python-version 3.11 --universal --generate-hashes --no-emit-index-url \
		--no-header --no-annotate --quiet --upgrade requirements.in --constraint ../requirements-dev.txt \
		--output-file requirements.txt

clean: ## Remove what was installed and built
	rm -rf .aws-sam .local .venv

.venv/ready: requirements-dev.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null || \
		{ echo "Rootsweep needs Python 3.11 to 3.14; say which with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing the tools into .venv (once)"
	@"$(PYTHON)" -m venv --clear .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements-dev.txt
	@touch $@
