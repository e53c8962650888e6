# What people and CI call. Each target stands alone: in a fresh clone it first builds the environment it needs.
# Only POSIX make and sh, and a Python of 3.11 or newer; name another one with `make PYTHON=/path/to/python`.

PYTHON =
ARGS =

VENV = .venv
BIN = $(VENV)/bin
PIP = -m pip --disable-pip-version-check -q install --compile --require-hashes

# The first of these that runs, is new enough and can make environments; a version manager's stand-in may do neither.
FIND_PYTHON = for python in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	python=; [ -z "$(PYTHON)" ] || break; done; \
	[ -n "$$python" ] || { echo 'make: andon needs Python 3.11 or newer with venv and ensurepip (on Debian: apt-get' \
	'install python3 python3-venv), and found none$(PYTHON:%= at %); name one with: make PYTHON=/path/to/python' >&2; exit 1; }

.PHONY: help demo test nightly bench bench-judge screenshots lint check format servers pins clean

help:
	@echo 'make demo     open the room over a shop that plays itself; nothing to configure'
	@echo 'make test     run the tests; ARGS="tests/test_board.py -x" runs some of them'
	@echo 'make nightly  the tests that take too long for every run: more schedules, longer runs'
	@echo 'make bench    measure speed and size on this machine; ARGS="start --rounds 7" measures some of it'
	@echo 'make bench-judge  the judge of deployments on scenarios, beside what others use: ARGS="--n 100 --rivals"'
	@echo 'make screenshots  draw the pictures of the documents anew'
	@echo 'make check    everything CI checks: format, lint, types, imports, tests'
	@echo 'make lint     the same without the tests'
	@echo 'make format   format the code and mend what can be mended'
	@echo 'make servers  install the real servers that some tests start (Python ones; tests/servers/install.sh: the rest)'
	@echo 'make pins     choose the versions in requirements/ anew (needs uv)'
	@echo 'make clean    remove the environments and the caches'

demo: $(VENV)/.run
	@$(BIN)/andon demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(ARGS)

nightly: $(VENV)/.dev
	$(BIN)/python -m pytest -m nightly $(ARGS)

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.figures $(ARGS)

bench-judge: $(VENV)/.dev
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.judging --detector benchmarks.judge:make_detector $(ARGS)

screenshots: $(VENV)/.dev
	$(BIN)/python -m tests.pictures docs/pictures

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint test

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# An environment is made once and then brought up to date. Sources are compiled here, because where
# PYTHONDONTWRITEBYTECODE is set nobody else does, and every start would compile them again.
$(VENV)/.run: pyproject.toml requirements/run.txt requirements/build.txt
	@$(BIN)/python -c 'import pip' 2>/dev/null || { $(FIND_PYTHON); \
		echo "building $(VENV) with $$("$$python" --version)"; "$$python" -m venv --clear $(VENV); }
	@$(BIN)/python $(PIP) -r requirements/run.txt -r requirements/build.txt
	@$(BIN)/python -m pip --disable-pip-version-check -q install --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q andon adapters tui themes
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo 'installing what the tests need'
	@$(BIN)/python $(PIP) -r requirements/dev.txt
	@touch $@

servers: .servers/.done

.servers/.done: requirements/servers.txt
	@.servers/bin/python -c 'import pip' 2>/dev/null || { $(FIND_PYTHON); \
		echo "building .servers with $$("$$python" --version)"; "$$python" -m venv --clear .servers; }
	@.servers/bin/python $(PIP) -r requirements/servers.txt
	@touch $@

# Each set keeps to the versions of the ones before it, so that one environment can hold them all.
EXTRAS = --extra postgres --extra sql --extra http --extra apprise --extra github-app
COMPILE = uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --upgrade

pins:
	@command -v uv >/dev/null || { echo 'make: pins needs uv (pipx install uv)' >&2; exit 1; }
	$(COMPILE) pyproject.toml -o requirements/run.txt
	$(COMPILE) requirements/build.in -c requirements/run.txt -o requirements/build.txt
	$(COMPILE) pyproject.toml $(EXTRAS) --group dev -c requirements/run.txt -c requirements/build.txt -o requirements/dev.txt
	$(COMPILE) requirements/servers.in -o requirements/servers.txt

clean:
	rm -rf $(VENV) .servers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find andon adapters tui themes tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
