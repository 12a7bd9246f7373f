# make demo: set up, and run the main job on real data.   make test: set up, and pass every check.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# One thread an evaluation: results do not depend on the number of cores, and runs can share them.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.PHONY: demo test lint bench clean

demo: $(READY)
	rm -rf runs/demo
	$(BIN)/nas search search_configs/digits.yaml --out runs/demo
	$(BIN)/nas front runs/demo --test

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# About an hour on two cores; those that need the benchmark data say so where it is absent.
bench: $(READY)
	for file in $(filter-out %/record.py %/imported.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$file || exit 1; done

# torch comes first and alone, so that nothing else decides on its version.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) build dist *.egg-info
