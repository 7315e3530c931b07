# make demo     clone demonstrations and train online, a CVAE beside simpler densities (minutes)
# make test     run all tests and docstring examples
# make check    check format, lint, types, and the native update with sanitizers
# make bench    compare speed with Stable-Baselines3 and SBX (minutes)
# make results  repeat measurements of the docs (hours); finished parts are kept. One of them:
#               make results RESULTS=density-suite
# make docs     build the site into site/
# make clean    remove what the targets above built, except .venv and runs/
#
# Each target sets up .venv first. Another Python: make PYTHON=python3.12 test

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq -c constraints.txt

RESULTS ?= density-suite mujoco

.PHONY: demo test check bench results docs clean

demo: .venv/.ready
	$(BIN)/vaerl experiment demo --out runs/demo

test: .venv/.ready-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv/.ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@files=$$(find vaerl agents envs experiments -name '*.py' -type f | wc -l | tr -d ' '); \
	  out=$$($(BIN)/mypy); echo "$$out"; \
	  case "$$out" in \
	    *"no issues found in $$files source files"*) ;; \
	    *) echo "mypy: expected no issues in all $$files source files"; exit 1 ;; \
	  esac
	@PYTHON=$(BIN)/python tests/native/sanitize.sh

bench: .venv/.ready
	$(BIN)/vaerl bench --out runs/bench

results: .venv/.ready
	@set -e; for name in $(RESULTS); do \
	  $(BIN)/vaerl experiment $$name --out runs/$$name; \
	done

docs: .venv/.ready-docs
	$(BIN)/python docs/gen_tables.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

clean:
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find vaerl agents envs experiments tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: dependencies are installed again only when they change. A larger set includes a smaller one.
.venv/.ready: pyproject.toml constraints.txt | .venv/.python
	@echo "installing vaerl and its dependencies, with torch, into .venv (some minutes the first time)"
	$(PIP) --no-build-isolation -e ".[flow,video]"
	@touch $@

.venv/.ready-dev: pyproject.toml constraints.txt | .venv/.python
	@echo "installing vaerl, its dependencies and the test tools into .venv (some minutes the first time)"
	$(PIP) --no-build-isolation -e ".[dev,flow,video]"
	@touch .venv/.ready $@

.venv/.ready-docs: pyproject.toml constraints.txt | .venv/.python
	$(PIP) --no-build-isolation -e ".[docs]"
	@touch $@

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("vaerl needs Python 3.11 or later, not " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(PIP) setuptools wheel
	@touch $@
