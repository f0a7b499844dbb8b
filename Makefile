# Everything runs in .venv; nothing is installed outside this folder.
export UV_PYTHON_DOWNLOADS := never
export PYTHONPATH := src:.

UV := uv==0.13.9
BIN := .venv/bin
PYTHON ?= python3

.PHONY: help demo test oracle chaos security lint format types migrations docs bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

demo: .venv/demo.stamp  ## show the whole way, from a REST call to a verified webhook; KEEP=1 leaves it running
	$(BIN)/python -m example.demo $(if $(KEEP),--keep)

test: .venv/test.stamp  ## run the tests on SQLite; DRF_WEBHOOKS_TEST_DB=postgresql or mariadb chooses another
	$(BIN)/python -m pytest -n auto $(ARGS)

oracle: .venv/test.stamp  ## judge every kind of write to every kind of relation, on the database of make test
	ORACLE=1/1 $(BIN)/python -m pytest -n auto -m oracle $(ARGS)

chaos: .venv/test.stamp  ## kill N processes (200) at any instant, and check what was received; on the database of make test
	CHAOS=$(or $(N),200) $(BIN)/python -m pytest -q -m chaos $(ARGS)

security: .venv/test.stamp  ## try the attacks on addresses, answers, secrets and tenants, and count what held
	$(BIN)/python -m pytest -n auto -q -m security $(ARGS)

lint: .venv/ci.stamp  ## ruff and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

format: .venv/ci.stamp  ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: .venv/ci.stamp  ## mypy, strict
	$(BIN)/mypy
	$(BIN)/mypy --config-file example/mypy.ini

migrations: .venv/test.stamp  ## models and migrations agree
	$(BIN)/python -m django makemigrations --check --dry-run --settings=tests.settings
	$(BIN)/python -m django makemigrations --check --dry-run --settings=example.duplex.settings

docs: .venv/ci.stamp  ## build the documentation; warnings are errors
	$(BIN)/sphinx-build -W -q -b html docs build/docs

bench: .venv/ci.stamp  ## measure the request path, what the guarantee costs, and the deliveries
	$(BIN)/python -m benchmarks.request_path
	$(BIN)/python -m benchmarks.guarantee
	$(BIN)/python -m benchmarks.delivery

clean:  ## remove what the targets have made
	rm -rf .venv build .coverage* .mypy_cache .pytest_cache .ruff_cache .nox

.venv/bin/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV)

.venv/%.stamp: requirements/%.txt pyproject.toml .venv/bin/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $<
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@
