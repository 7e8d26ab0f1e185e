# Everything a developer or a curious operator types. `make env` runs by itself where it is needed.
#
#   make up [ARGS="--data-dir D --port P"]   make test [ARGS="tests/shared -k wire"]   make coverage   make check   make bench   make chaos   make lock

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.labrelay-installed
ARGS   ?=
# Test workers: one a core, four at most, since each brings servers of its own.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ $$n -gt 4 ] && n=4; echo $$n)

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_NO_INPUT = 1

.PHONY: help env up test coverage check bench chaos lock
help:
	@sed -n '1,3p' $(MAKEFILE_LIST) | sed 's/^# \{0,1\}//'

env: $(STAMP)

# Made anew only when what is required changes. A half-made environment has no stamp.
$(STAMP): requirements/dev.txt requirements/build.txt pyproject.toml
	@PYTHON='$(PYTHON)' VENV='$(VENV)' sh .ci/make-env
	@touch $@

up: $(STAMP)
	@LABRELAY_UP_END_WITH_PARENT=1 exec $(BIN)/labrelay up $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist load --maxschedchunk 2 $(ARGS)

# Branch coverage of the hub by its own tests.
coverage: $(STAMP)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n $(WORKERS) --dist load --maxschedchunk 2 -q tests/hub
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --skip-covered --fail-under=90

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One of them with ARGS="path --seconds 20", else the three that measure speed.
bench: $(STAMP)
	$(if $(ARGS),$(BIN)/python -m bench $(ARGS),for name in wire poll path; do $(BIN)/python -m bench $$name --json || exit 1; done)

# Fifty faults on a real stack, drawn from a seed: make chaos SEED=7. See docs/reliability.md.
SEED ?= 1
chaos: $(STAMP)
	$(BIN)/python -m bench chaos --rounds 50 --seed $(SEED) $(ARGS)

# Pinned, hashed and without index addresses. Needs uv: https://docs.astral.sh/uv/
COMPILE := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11
lock:
	$(COMPILE) --all-extras --group dev pyproject.toml -o requirements/dev.txt
	$(COMPILE) --extra all pyproject.toml -c requirements/dev.txt -o requirements/up.txt
	for extra in agent hub client; do \
	  $(COMPILE) --extra $$extra pyproject.toml -c requirements/dev.txt -o requirements/$$extra.txt || exit 1; done
	echo 'setuptools>=77' | $(COMPILE) - -o requirements/build.txt
