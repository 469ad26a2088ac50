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

bench: setup  ## measure mover, wave DAG, inventory and rules; results go to docs/
	@$(BIN)/python bench/mover.py $(ARGS)
	@$(BIN)/python bench/wave.py $(ARGS)
	@$(BIN)/python bench/inventory.py
	@$(BIN)/python bench/rules.py

down:  ## stop everything that the demo or the lab started
	@$(if $(wildcard $(BIN)/python),$(BIN)/python -m lab down,echo "nothing to stop: there is no $(VENV)")

pins: setup  ## write requirements.txt from requirements.in
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	  requirements.in -o requirements.txt
