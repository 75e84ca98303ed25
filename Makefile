# Python >= 3.11, git and make are enough; everything else goes into .venv.
#   make lab          open the lessons in JupyterLab
#   make test         everything that CI runs
# Another interpreter: make lab PYTHON=python3.12 (after `make clean`, if .venv exists already).

PYTHON ?= python3
LAB_ARGS ?=
PYTEST_ARGS ?=
BOOK_ARGS ?=
TEST_WORKERS ?= 3
export OMP_NUM_THREADS ?= 2
unexport PYTHONDONTWRITEBYTECODE # or each worker and kernel compiles all of it again

BIN := .venv/bin
FAST := not browser and not slow and not sweep and not gpu and not timing
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help lab test lowest fresh sweep soak lessons book films vendor wheel wheel-check constraints clean

help:
	@sed -n 's/^#   //p' Makefile
	@echo "make sweep        the long sweeps that make test leaves out"
	@echo "make lowest       the fast tests with the lowest versions that pyproject.toml allows"
	@echo "make fresh        the fast tests of a fresh clone with the newest versions that it allows"
	@echo "make soak         2,000 random control events on every explorer"
	@echo "make lessons      run the lessons and save their outputs"
	@echo "make book         build the lessons as static pages that move without Python"
	@echo "make films        film the heroes for README and the docs"
	@echo "make vendor       bundle d3 and temml again (needs npm); tools/vendor pins their versions"
	@echo "make wheel        build the wheel into dist/"
	@echo "make wheel-check  install that wheel into an empty environment and use it"
	@echo "make constraints  take the newest versions that fit and pin them"
	@echo "make clean        remove .venv and everything built"

lab: .venv/.lab
	@echo "lab: looking for the language model"
	@$(BIN)/intuitive model || echo "lab: going on without the model; the lessons say what waits for it"
	@$(BIN)/intuitive lab --folder notebooks $(LAB_ARGS)

test: .venv/.test
	@echo "test: looking for the language model"
	@$(BIN)/intuitive model || echo "test: going on without the model; its tests are skipped, or fail where CI is set"
	@echo "test: ruff, lint and format"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "test: pytest in $(TEST_WORKERS) processes: package, lessons, browser"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not sweep and not timing" --durations=10 \
	  -n $(TEST_WORKERS) $(PYTEST_ARGS)
	@echo "test: what measures time, with nothing beside it"
	@$(BIN)/python -m pytest -m "timing and not sweep" $(or $(PYTEST_ARGS),tests/browser)

sweep: .venv/.test
	@echo "sweep: the tests marked sweep"
	@$(BIN)/python -m pytest -m sweep $(PYTEST_ARGS)

# pip takes torch's CPU build where PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS names a place that has it.
lowest: .venv/.python
	@echo "lowest: the lowest versions that pyproject.toml allows, in a fresh environment"
	@rm -rf build/lowest && $(PYTHON) -m venv build/lowest
	@$(PYTHON) tools/lowest.py test > build/lowest/pins.txt
	@build/lowest/bin/python -m pip install --quiet --disable-pip-version-check -r build/lowest/pins.txt
	@build/lowest/bin/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --no-build-isolation -e .
	@build/lowest/bin/intuitive model || echo "lowest: going on without the model"
	@OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest -n $(TEST_WORKERS) \
	  -m "$(FAST)" $(PYTEST_ARGS)

# A clone of what is committed, in an environment of its own; `make lowest` is its counterpart.
fresh: .venv/.python
	@echo "fresh: a clone, the newest versions that pyproject.toml allows, the fast tests"
	@rm -rf build/fresh && mkdir -p build && git clone --quiet . build/fresh
	@$(PYTHON) -m venv build/fresh/.venv
	@cd build/fresh && .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@cd build/fresh && .venv/bin/python -m pip list --format=freeze --disable-pip-version-check
	@cd build/fresh && .venv/bin/intuitive model || echo "fresh: going on without the model"
	@cd build/fresh && OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(TEST_WORKERS) \
	  -m "$(FAST)" $(PYTEST_ARGS)

soak: .venv/.test
	@echo "soak: 2,000 random control events on every explorer"
	@$(BIN)/python -m intuitive.widgets.kit.soak --events 2000

lessons: .venv/.test
	@echo "lessons: running every lesson and saving its outputs"
	@$(BIN)/python tools/build_lessons.py

book: .venv/.test
	@echo "book: recording what has changed, writing the pages into build/book, checking their links"
	@$(BIN)/python tools/book.py $(BOOK_ARGS)

films: .venv/.test
	@echo "films: the lessons' heroes, moving"
	@$(BIN)/python tools/films.py

vendor:
	@echo "vendor: bundling d3 and temml into widgets/kit/front/vendor.min.js"
	@cd tools/vendor && npm ci --ignore-scripts --no-audit --no-fund --silent && npm run --silent bundle

wheel: .venv/.test
	@echo "wheel: building into dist/"
	@rm -rf build dist
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/*.whl

wheel-check: wheel
	@echo "wheel-check: installing the wheel into an empty environment"
	@rm -rf build/empty && $(PYTHON) -m venv build/empty
	@build/empty/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	@cd build/empty && bin/intuitive doctor

constraints: .venv/.python
	@echo "constraints: resolving the newest versions in a fresh environment"
	@rm -rf build/pins && $(PYTHON) -m venv build/pins
	@build/pins/bin/python -m pip install --quiet --disable-pip-version-check '.[test]' torch==2.13.0
	@grep '^#' constraints.txt > build/pins/constraints.txt
	@build/pins/bin/python -m pip freeze --all --exclude pip --exclude intuitive-lessons \
	  | sed -e '/^nvidia-/d' -e 's/+.*//' >> build/pins/constraints.txt
	@mv build/pins/constraints.txt constraints.txt

# Stamps: an environment is made once, and installed into again when the dependencies change.

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, but $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>&1 || true). Name another: make $(MAKECMDGOALS) PYTHON=python3.12"; \
	  exit 1; }
	@echo "setup: making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv || { \
	  echo "$(PYTHON) could not make .venv: on Debian and Ubuntu install the package python3-venv."; \
	  exit 1; }
	@touch $@

.venv/.lab: .venv/.python pyproject.toml constraints.txt
	@echo "setup: installing the pinned dependencies and the package (some minutes the first time)"
	@$(INSTALL) -e .
	@touch $@

.venv/.test: .venv/.python pyproject.toml constraints.txt
	@echo "setup: installing the package, its pinned dependencies and the test tools (some minutes the first time)"
	@$(INSTALL) -e '.[test]'
	@touch .venv/.lab $@

clean:
	@echo "clean: removing .venv and everything built"
	@rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .artifacts
