# Everything a fresh machine needs: Python 3.11 or newer, pip and a package index.
#   make run                  the dashboard; ARGS="--port 9000" passes arguments
#   make setup PYTHON=python3.12   with an interpreter of your choice

.PHONY: setup run test test-all test-clients coverage lint bench soak docs site package audit screenshots clean
.DEFAULT_GOAL := run

PYTHON ?=
ARGS ?=
VENV := .venv
CLIENTS := .test-clients
BIN := $(VENV)/bin
STAMP := $(VENV)/.stoker-installed
# One worker a core; a file's tests stay together, for what they set up once.
WORKERS ?= -n logical --maxprocesses 4 --dist loadfile
SOAK_S ?= 1800
BENCHMARKS ?= cpu_profile http_agents dashboard startup returning_agent shared_prefix \
	pool_scale persistence_cost kv_formats constrained http_overhead fairness swap conversion
LOCKS := requirements-dev.lock requirements-model.lock
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes

setup: $(STAMP)

# The lock files hold every package with its checksum, so pip resolves nothing. Stoker itself is
# not installed: building it would fetch a build backend past the locks. A launcher that names
# this checkout is all that an editable install would have been.
$(STAMP): pyproject.toml $(LOCKS) Makefile
	@for candidate in $(PYTHON) $(if $(PYTHON),,python3 python3.13 python3.12 python3.11); do \
		if "$$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
		then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "stoker: needs Python 3.11 or newer; name one: make setup PYTHON=..." >&2; exit 1; \
	fi; \
	echo "setting up $(VENV) with $$($$found --version); the first time takes a few minutes"; \
	"$$found" -m venv $(VENV)
	@$(PIP) -r requirements-dev.lock
	@$(PIP) -r requirements-model.lock
	@printf '%s\n' '#!/bin/sh' \
		'exec "$(CURDIR)/$(BIN)/python" -P -c "import sys; sys.path.insert(0, sys.argv.pop(1)); from app.cli import main; sys.exit(main())" "$(CURDIR)" "$$@"' \
		> $(BIN)/stoker
	@chmod +x $(BIN)/stoker
	@touch $@

run: setup
	@$(BIN)/stoker $(ARGS)

test: lint
	$(BIN)/python -m pytest $(WORKERS) -m "not slow and not clients and not package" $(ARGS)

test-all: lint
	$(BIN)/python -m pytest $(WORKERS) -m "not clients and not package" $(ARGS)

# Other people's programs against this server, at versions that are named here and kept out of the
# repository: coding agents from npm, and the tests of llama.cpp's server from a source package.
test-clients: setup
	@for program in node npm; do command -v $$program > /dev/null || { \
		echo "stoker: needs $$program; install Node.js 22 or newer" >&2; exit 1; }; done
	@$(PIP) -r requirements-clients.lock
	@mkdir -p $(CLIENTS) && cp tests/clients/package.json $(CLIENTS)/
	@npm install --prefix $(CLIENTS) --no-package-lock --no-audit --no-fund --loglevel error
	@$(BIN)/python -m pip --disable-pip-version-check download --quiet --no-deps --require-hashes \
		--no-binary llama-cpp-python -r tests/clients/llama_cpp/requirements.txt -d $(CLIENTS)
	$(BIN)/python -m pytest -m clients $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	@for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name $(ARGS) || exit; done

# Half an hour of mixed traffic; SOAK_S=300 makes it five minutes.
soak: setup
	$(BIN)/python -m benchmarks.soak --seconds $(SOAK_S) $(ARGS)

screenshots: setup
	$(BIN)/python -m docs.pictures screenshots

docs: setup
	$(BIN)/python -m docs.generate

# The documentation as a site, in site/; nothing in it asks another server for anything.
site: setup
	@$(PIP) -r requirements-docs.lock
	$(BIN)/python -m pytest tests/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Wheel and sdist in dist/, each installed into an empty environment and run there.
package: setup
	@$(PIP) -r requirements-build.lock
	$(BIN)/python -m pytest -m package tests/packaging $(ARGS)

# Licences of all that the lock files name, secrets in the tree, and dist/stoker.cdx.json.
audit: setup
	$(BIN)/python -m pytest tests/audit
	$(BIN)/python -m tests.audit.sbom dist/stoker.cdx.json

coverage: setup
	$(BIN)/python -m pytest -m "not slow and not clients and not package" --cov --cov-report=term $(ARGS)

clean:
	rm -rf $(VENV) .test-models $(CLIENTS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find app engine widgets styles tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
