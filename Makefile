# Everything runs in .venv; nothing is installed outside this folder.
export UV_PYTHON_DOWNLOADS := never
export PYTHONPATH := src:.

UV := uv==0.13.9
BIN := .venv/bin
PYTHON ?= python3

.PHONY: help demo test oracle chaos security fuzz browser lint format types migrations messages docs schema bench clean

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

fuzz: .venv/test.stamp  ## send what a generator makes up to the API: N examples (200) for each operation, and as they follow from one another
	FUZZ=$(or $(N),200) $(BIN)/python -m pytest -q -m fuzz $(ARGS)

browser: .venv/ci.stamp  ## look at pages with Debian's chromium, and keep images of them for the documentation
	DRF_WEBHOOKS_IMAGES=docs/images $(BIN)/python -m pytest -q -m browser $(ARGS)

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

messages: .venv/test.stamp  ## collect what is to be translated, and compile what is; needs GNU gettext
	cd src/drf_webhooks && ../../$(BIN)/python -m django makemessages --all --no-location --no-obsolete
	cd src/drf_webhooks && ../../$(BIN)/python -m django compilemessages

docs: .venv/ci.stamp  ## build the documentation; warnings are errors, and what it shows is run
	$(BIN)/sphinx-build -W -q -b html docs build/docs
	$(BIN)/python -m pytest -q tests/test_documentation.py tests/test_reference.py tests/test_receivers_page.py tests/test_tutorial.py

schema: .venv/ci.stamp build/redocly/stamp  ## write the OpenAPI documents of the example and the test project; two validators
	mkdir -p build/schema
	DJANGO_SETTINGS_MODULE=example.settings $(BIN)/python -m django spectacular --validate --fail-on-warn --file build/schema/example.yaml
	DJANGO_SETTINGS_MODULE=example.settings $(BIN)/python -m django webhooks_schema --output build/schema/example-webhooks.yaml
	DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python -m django webhooks_schema --output build/schema/tests-webhooks.yaml
	DJANGO_SETTINGS_MODULE=example.settings $(BIN)/python -m django webhooks_schema --diff build/schema/example.yaml
	$(BIN)/python -m openapi_spec_validator build/schema/*.yaml
	REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
		build/redocly/node_modules/.bin/redocly lint --extends=spec build/schema/*.yaml

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

build/redocly/stamp: requirements/redocly/package.json requirements/redocly/package-lock.json
	mkdir -p build/redocly
	cp requirements/redocly/*.json build/redocly/
	npm ci --prefix build/redocly --ignore-scripts --no-audit --no-fund --no-update-notifier
	@touch $@
