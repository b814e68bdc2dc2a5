# PaperProfit. `make` alone prints the targets. Prerequisites: make, and Python 3.11 to 3.14 with venv.
PYTHON ?= python3
UV_VERSION := 0.13.9
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1

RUN := .venv-run
DEV := .venv
NAUTILUS := .venv-nautilus
UV := .uv-tool/bin/uv
SYNC := $(UV) sync --quiet --locked --python
BENCHES := $(patsubst bench/bench_%.py,%,$(wildcard bench/bench_*.py))

.DEFAULT_GOAL := help
.PHONY: help run key check-provider test chaos soak differential parity lint format bench docs up down logs clean python

help: ## Print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'
	@printf '  make %-12s %s\n' $(foreach bench,$(BENCHES),bench-$(bench) "Only bench/bench_$(bench).py")

run: $(RUN)/.ready ## Run all of it here: own database, demo account, recorded prices (PORT=, PROVIDER=, PAPERPROFIT_HOME=)
	@echo "starting PaperProfit"
	@exec $(RUN)/bin/python -m embedded

key: $(RUN)/.ready ## Replace a lost key of make run, which may be running (ACCOUNT= for another than the demo's)
	@$(RUN)/bin/python -m embedded key $(ACCOUNT)

check-provider: $(RUN)/.ready ## Print what a price provider answers now, beside what would be stored (PROVIDER=, SYMBOLS=)
	@$(RUN)/bin/python -m services.marketdata.check_provider --provider "$(PROVIDER)" --symbols $(SYMBOLS)

test: $(DEV)/.ready ## Run the tests against a real RabbitMQ and PostgreSQL
	@tests/ensure-rabbitmq
	@tests/ensure-postgresql
	@tests/ensure-pgbouncer
	@tests/ensure-chromium
	@echo "collecting the tests"
	@$(DEV)/bin/python -m pytest -p tests.progress -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: $(DEV)/.ready ## Trade while everything breaks: 20 seeded fault runs (PAPERPROFIT_CHAOS_SEEDS=, _FIRST_SEED=)
	@tests/ensure-rabbitmq
	@tests/ensure-libfaketime
	@$(DEV)/bin/python -m pytest tests/chaos -s $(ARGS)

soak: $(DEV)/.ready ## Trade for half an hour, and fail if memory, connections or tables grow without end (SOAK_MINUTES=)
	@$(DEV)/bin/python -m bench.soak

differential: $(DEV)/.ready $(NAUTILUS)/.ready ## Compare our fills with NautilusTrader's, order by order (PAPERPROFIT_TAPE_SEED=)
	@$(DEV)/bin/python -m pytest tests/differential -s $(ARGS)

parity: $(DEV)/.ready ## Compare a strategy live with its backtest, to the cent (PAPERPROFIT_PARITY_STRATEGY=, _SYMBOLS=)
	@tests/ensure-postgresql
	@$(DEV)/bin/python -m pytest tests/component/test_backtest_parity.py -s $(ARGS)

lint: $(DEV)/.ready ## ruff and mypy
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy

format: $(DEV)/.ready ## Format the code
	$(DEV)/bin/ruff check --fix-only .
	$(DEV)/bin/ruff format .

bench: $(addprefix bench-,$(BENCHES)) ## Run every benchmark, beside its reference

bench-orders bench-strategy: $(NAUTILUS)/.ready

bench-%: $(DEV)/.ready
	@test -f bench/bench_$*.py || { echo "there is no bench/bench_$*.py"; exit 1; }
	@test $* != jobs || bench/ensure-peers
	@$(DEV)/bin/python -m bench.bench_$* $(ARGS)

docs: $(DEV)/.ready ## Write docs/asyncapi.json: every message of the bus, for outsiders
	@mkdir -p docs
	@$(DEV)/bin/python -m docs.asyncapi > docs/asyncapi.json

up: ## Start the deployed shape with docker compose, and wait until it is healthy
	@umask 077 && deploy/make-env .env > .env.new && { test ! -s .env.new || echo "wrote new passwords into .env"; } && cat .env.new >> .env && rm .env.new
	docker compose up --build --detach --wait

down: ## Stop it; its volumes stay
	docker compose down

logs: ## Follow its logs
	docker compose logs --follow

clean: ## Remove the environments (the data of make run stays in .paperprofit)
	rm -rf $(RUN) $(DEV) $(NAUTILUS) .uv-tool

python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null || { \
	  echo "PaperProfit needs Python 3.11 to 3.14; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo not here): install one, or name it with make PYTHON=python3.12"; exit 1; }

$(UV): | python
	@deploy/with-progress "making an environment for uv" $(PYTHON) -m venv .uv-tool || { echo "python3-venv is missing: install it (Debian: apt-get install python3-venv)"; exit 1; }
	@deploy/with-progress "installing uv $(UV_VERSION)" .uv-tool/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(RUN)/.ready: pyproject.toml uv.lock | python $(UV)
	@UV_PROJECT_ENVIRONMENT=$(RUN) deploy/with-progress "installing the libraries into $(RUN)" $(SYNC) $$(command -v $(PYTHON)) --group run
	@touch $@

$(DEV)/.ready: pyproject.toml uv.lock | python $(UV)
	@UV_PROJECT_ENVIRONMENT=$(DEV) deploy/with-progress "installing the libraries into $(DEV)" $(SYNC) $$(command -v $(PYTHON)) --group dev
	@touch $@

# NautilusTrader is run beside ours, and never imported by it.
$(NAUTILUS)/.ready: tests/differential/pyproject.toml tests/differential/uv.lock | python $(UV)
	@UV_PROJECT_ENVIRONMENT=$(CURDIR)/$(NAUTILUS) deploy/with-progress "installing NautilusTrader into $(NAUTILUS)" \
	  $(SYNC) $$(command -v $(PYTHON)) --project tests/differential
	@touch $@
