# Rootsweep on a laptop. Every target sets itself up: it needs make and Python 3.11 to 3.14.

ORG ?= examples/organization.yaml
PORT ?= 4566
PARAMS ?=
AUTO ?=
SEED ?=
SEEDS ?= 200
QUICK ?=
AGAIN ?=
SWEEPS ?= 1000
# The oldest first: what runs there runs on the newer ones.
PYTHON ?= $(firstword $(foreach version,3.11 3.12 3.13 3.14,$(shell command -v python$(version) 2>/dev/null)) $(shell command -v python3 2>/dev/null) python3)

LOCK = uv pip compile --python-version 3.11 --universal --generate-hashes --no-emit-index-url \
	--no-header --no-annotate --quiet --upgrade

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONPATH := $(CURDIR)/functions

.DEFAULT_GOAL := help
.PHONY: help demo test coverage fuzz year faults soak bench local local-down verify-log check permissions permissions-test audit sbom lock pictures clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: .venv/ready ## Sweep a pretend organization, end to end. AUTO=approve|decline|ignore, ORG=file.yaml, PORT=4566
	@python -m local demo --organization "$(ORG)" --port "$(PORT)" --auto "$(AUTO)" --parameters "$(PARAMS)"

test: .venv/ready .venv-checks/ready ## Run all tests, in two processes
	@python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

coverage: .venv/ready ## Which lines and branches of functions/ the unit tests do not reach; fails under 95 %
	@python -m pytest --quiet --no-header --numprocesses 2 --dist loadfile --cov=functions --cov-branch \
		--cov-report=term-missing:skip-covered --cov-fail-under=95 tests/unit

fuzz: .venv/ready ## Send 10,000 generated requests to the approval page; `make test` sends 2,000
	@FUZZ_EXAMPLES=10000 python -m pytest tests/unit/test_approval_page_fuzz.py

year: .venv/ready ## Live through SEEDS=200 simulated years of daily sweeps, or through the one of SEED=17; `make test` through three
	@$(if $(SEED),YEAR_SEED=$(SEED),YEAR_SEEDS=$(SEEDS)) python -m pytest tests/year/test_year.py

faults: .venv/ready ## Let every call to AWS fail in every way, tell 1,000 stories, take out each safeguard; QUICK=1: the part that `make test` runs; AGAIN=1: not what held the last time
	@python -m $(if $(QUICK),pytest tests/faults,tests.faults $(if $(AGAIN),--again))

soak: .venv/ready ## SWEEPS=1000 sweeps, two cases each, over one stack: does anything grow?
	@python -m tests.faults.soak $(SWEEPS)

bench: .venv/ready ## Measure, and write docs/performance.md; QUICK=1: a part of it, in five minutes
	@python -m bench $(if $(QUICK),--quick)

local: .venv/ready ## Leave the stack running in the background. ORG=file.yaml, PORT=4566, PARAMS="Key=Value ..."
	@python -m local up --organization "$(ORG)" --port "$(PORT)" --parameters "$(PARAMS)"

local-down: .venv/ready ## Stop what `make local` started
	@python -m local down

verify-log: .venv/ready ## Check the decision log in BUCKET=name, or a copy in DIR=folder; HEAD=number:hash has to be in it
	@python -m operate.verify_log $(if $(BUCKET),--bucket "$(BUCKET)") $(if $(DIR),--directory "$(DIR)") $(if $(HEAD),--head "$(HEAD)")

check: .venv/ready .venv-checks/ready ## Lint, types, templates, permissions, secrets, state machines
	ruff check --quiet .
	ruff format --check --quiet .
	mypy
	zizmor --offline --quiet --no-progress --persona pedantic .github
	cfn-lint --non-zero-exit-code warning -- template.yaml member-role.yaml member-events.yaml root-session-policy.yaml
	CKV_SKIP_PACKAGE_UPDATE_CHECK=true .venv-checks/bin/checkov --config-file .checkov.yaml
	python -m pytest --quiet --no-header --numprocesses 2 --dist loadfile tests/contract

permissions: .venv/ready ## Write docs/permissions.md anew from templates, definitions and code
	@python -m tests.contract.permissions

permissions-test: .venv/ready ## Show that every permission is needed, and what roles must not do is denied
	@python -m pytest --verbose tests/permissions

audit: .venv-checks/ready ## Ask a vulnerability service about all pinned packages; needs the internet
	@for list in functions/requirements.txt requirements-dev.txt requirements-checks.txt; do \
		echo "$$list" && .venv-checks/bin/pip-audit --strict --disable-pip --require-hashes \
			--progress-spinner off --requirement "$$list" || exit 1; done

sbom: .venv/ready .venv-checks/ready ## Write docs/sbom.json and docs/licences.md
	@python -m tools.packages

lock: .venv/ready ## Resolve the pinned packages anew; `make sbom` after it
	$(LOCK) requirements-dev.in --output-file requirements-dev.txt
	cd functions && $(LOCK) requirements.in --constraint ../requirements-dev.txt --output-file requirements.txt
	$(LOCK) requirements-checks.in --output-file requirements-checks.txt

pictures: .venv/ready ## Make the pictures of README.md anew, in Chromium
	@python -m tools.pictures

clean: ## Remove what was installed and built
	rm -rf .aws-sam .local .venv .venv-checks

.venv/ready: requirements-dev.txt pyproject.toml
.venv-checks/ready: requirements-checks.txt
.venv/ready .venv-checks/ready:
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null || \
		{ echo "Rootsweep needs Python 3.11 to 3.14; say which with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing the tools into $(@D) (once)"
	@"$(PYTHON)" -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $<
	@$(if $(filter .venv,$(@D)),$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index \
		--no-build-isolation --editable .)
	@touch $@
