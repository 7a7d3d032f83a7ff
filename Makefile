# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV ?= .venv
# The pins of this Python's line of torchgeo (3.11: 0.8; newer: 0.10).
PINS := $(shell $(PYTHON) -c "import sys; print('py311' if sys.version_info < (3, 12) else 'py313')")
CONSTRAINTS := constraints/$(PINS).txt
READY := $(VENV)/.ready

.PHONY: demo test test-slow lint types imports check docs wheel constraints clean

demo: $(READY)
	$(VENV)/bin/eoseg demo

test: $(READY)
	$(VENV)/bin/pytest -m 'not slow'

# The demo and the recipes, trained for real: about ten minutes on two cores.
test-slow: $(READY)
	$(VENV)/bin/pytest -m slow

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(READY)
	$(VENV)/bin/mypy

imports: $(READY)
	$(VENV)/bin/lint-imports

# What CI holds a change to, apart from the wheel and the other torchgeo.
check: lint types imports test

docs: $(READY)
	$(VENV)/bin/sphinx-build -n -W --keep-going -d $(VENV)/doctrees docs docs/_build/html

wheel: $(READY)
	rm -rf dist
	$(VENV)/bin/uv build --quiet
	$(VENV)/bin/check-wheel-contents dist/*.whl

# uv is installed into the environment itself, so that a machine needs only Python and make.
$(READY): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --constraint $(CONSTRAINTS) --editable '.[test,docs]'
	touch $(READY)

constraints: $(READY)
	$(VENV)/bin/uv pip compile --quiet --no-header --no-annotate --all-extras --python-version 3.11 pyproject.toml -o constraints/py311.txt
	$(VENV)/bin/uv pip compile --quiet --no-header --no-annotate --all-extras --python-version 3.13 pyproject.toml -o constraints/py313.txt

clean:
	rm -rf $(VENV) dist docs/_build
