# Everything a person needs starts here; `make help` lists it. The work is done by lab/bootstrap.py and pytest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
export PYTHONPATH :=

.PHONY: help demo test test-openstack setup lint bench down pins

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 22

demo:  ## migrate three VMs in a data centre in a box (KEEP=1 leaves it running)
	@$(PYTHON) -m lab.bootstrap demo
	@$(BIN)/python -m lab.demo $(if $(KEEP),--keep) $(ARGS)

test:  ## set up and run the tests (ARGS="tests/plan -k csv" chooses; LONG=1 adds those that take minutes)
	@$(PYTHON) -m lab.bootstrap test
	@$(BIN)/python -m pytest -n 3 --no-loadscope-reorder -m "not openstack$(if $(LONG),, and not long)" $(ARGS)

test-openstack:  ## set up and run the tests that need real OpenStack services, a lane of their own
	@$(PYTHON) -m lab.bootstrap test-openstack
	@$(BIN)/python -m pytest tests/openstack $(ARGS)

setup:  ## make .venv with the commands mtv and mtv-mover
	@$(PYTHON) -m lab.bootstrap venv

lint: setup  ## ruff, mypy, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench:  ## measure and print tables (BENCH="wave" ARGS="--vms 100" chooses; else mover, wave, inventory and rules)
	@$(PYTHON) -m lab.bootstrap test
	@for name in $(or $(BENCH),mover wave inventory rules); do $(BIN)/python bench/$$name.py $(ARGS) || exit; done

down:  ## stop everything that the demo or the lab started
	@if $(BIN)/python -c pass 2>/dev/null; then $(BIN)/python -m lab down; \
	elif [ -n "$(wildcard var/lab/*/*.pid)" ]; then echo "a lab may run: make setup, then make down" >&2; exit 1; \
	else echo "nothing to stop"; fi

pins: setup  ## write requirements.txt from requirements.in
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	  requirements.in -o requirements.txt
