.PHONY: help setup demo test check fix bench clean
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
# uv does not read pip's variable.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# Threads that compete for a core make LightGBM and torch 8 to 14 times slower.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 LOKY_MAX_CPU_COUNT=1 POLARS_MAX_THREADS=1

help:
	@echo "make setup               create .venv and install pmx with everything it is developed with"
	@echo "make demo                train, package, replay and register: the embedded pumps, lying sensors, then a small messy plant"
	@echo "make test                all tests"
	@echo "make check               format, lint, types, import order"
	@echo "make fix                 format, and mend what the linter can mend"
	@echo "make bench [BENCH=name]  benchmarks/name.py, or all; the last line of each is one JSON object"
	@echo "make clean               remove .venv, runs and caches"

setup: .venv/.stamp

# pip is several times slower than uv, and works where uv does not (a private index in pip's own configuration, say).
.venv/.stamp: pyproject.toml constraints.txt
	@echo "Installing into .venv (half a minute with uv, three minutes with pip)"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	{ $(BIN)/python -m pip install -q -c constraints.txt uv \
	  && $(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]'; } \
	  || $(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/pmx run demo
	@echo; echo "Six other pumps, whose sensors are made to lie:"
	$(BIN)/pmx data fetch synthetic source.root=runs/pumps source.assets=6 seed=7
	$(BIN)/python -m pmx.checks.faults "$$(ls -d runs/demo/*/bundle | tail -1)" --input runs/pumps/readings.csv
	@echo; echo "The same as at first with files as a plant exports them, in runs/plant:"
	mkdir -p runs/plant
	cd runs/plant && ../../$(BIN)/pmx new pumps --force --readings ../../datasets/example_plant/readings_*.csv --orders ../../datasets/example_plant/orders.csv
	cd runs/plant && ../../$(BIN)/pmx data profile pumps && ../../$(BIN)/pmx run pumps

# loadfile: what a test module trains once is then trained once.
test: setup
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n 2 --dist loadfile --durations 10

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	@set -e; for file in benchmarks/$(or $(BENCH),*).py; do $(ONE_THREAD) $(BIN)/python -m benchmarks.$$(basename $$file .py); done

clean:
	rm -rf .venv runs dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
