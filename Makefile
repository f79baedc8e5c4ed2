# Everyday verbs. They use the environment in .venv, or else the active one;
# `pip install -e '.[dev]'` installs what they need.
PYTHON := $(if $(wildcard .venv/bin/python),$(CURDIR)/.venv/bin/python,python)
export PATH := $(if $(wildcard .venv/bin/python),$(CURDIR)/.venv/bin:)$(PATH)

.PHONY: build quick test lint style docs bench ci acceptance program clean

build:       # compile the extension modules in place
	$(PYTHON) setup.py -q build_ext --inplace
quick: style # what to run before each commit: a minute on two cores
	$(PYTHON) -m pytest -q -n auto --dist loadgroup -m "not slow" --hypothesis-profile=quick \
	    tests/unit
test:        # every test
	$(PYTHON) -m pytest -q -n auto --dist loadgroup
style:
	ruff check .
	ruff format --check .
	find velox examples tests -name '*.pyx' -o -name '*.pxd' | sort | xargs cython-lint
	$(PYTHON) .ci/imports.py
	find velox -name '*.py' | sort | xargs $(PYTHON) -m numpydoc lint
lint: style  # style, imports, types and stubs
	$(PYTHON) -m mypy
	$(PYTHON) -m mypy.stubtest velox --concise --ignore-unused-allowlist \
	    --allowlist .ci/stubtest-allowlist.txt
docs:        # the documentation, in docs/_build/html; a warning is an error
	$(PYTHON) -m sphinx -q -W --keep-going docs docs/_build/html
bench:       # what the parts cost on this machine, and the targets
	$(PYTHON) -m velox bench
	$(PYTHON) -m benchmarks.targets --quick
ci:          # every gate, from a clean checkout
	.ci/run
acceptance:  # the long checks; an interrupted run goes on where it was
	$(PYTHON) -m tests.acceptance
program:     # the market program of the local cluster, from its C sources
	$(PYTHON) -m velox.testing.market.build
clean:
	rm -rf build dist docs/_build *.egg-info velox/core/ring.pxd velox/core/ring.pyx
	find velox -name '*.so' -delete
