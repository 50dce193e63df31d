# Everything goes through scripts/start.py, which makes and fills the environment .venv.
# Windows has no make: the README gives the same commands for PowerShell.

PYTHON ?= $(shell command -v python3 || command -v python)
# Other folder, other versions: make test VENV=/somewhere CONSTRAINTS=constraints-colab.txt
export COURSE_VENV ?= $(VENV)
export COURSE_CONSTRAINTS ?= $(CONSTRAINTS)
START = $(PYTHON) scripts/start.py
ARGS ?=

.PHONY: help lab test lint bench nano evaluate notebooks reset badges constraints doctor install clean

help:  ## This list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## */\t/' | expand -t 14

lab:  ## Install if needed and open JupyterLab on the README
	$(START) lab $(ARGS)

test:  ## Install if needed, run every chapter and every test (ARGS="-k model" for some)
	$(START) test $(ARGS)

doctor:  ## Say what this machine can run, with a cure for what it cannot
	$(START) run lab python -m labhelpers.doctor

lint:  ## Style and types of code and notebooks; the workflow too where actionlint is present
	$(START) run dev ruff check .
	$(START) run dev ruff format --check .
	$(START) run dev mypy
	@if command -v actionlint >/dev/null; then actionlint; else echo "actionlint: not here, skipped"; fi

bench:  ## Decode speed of nano, as a ratio to transformers
	$(START) run lab python -m benchmarks.decode $(ARGS)

nano:  ## Make nano anew: vocabulary, training, export, evaluation (ARGS=--cpu-smoke: a toy)
	$(START) run test python -m training.nano $(ARGS)

evaluate:  ## The table of nano's skills, from the weights that are here
	$(START) run test python -m training.evaluate $(ARGS)

notebooks:  ## Re-execute and clean all chapters, or one with CH=1
	$(START) run test python -m scripts.execute $(CH)

reset:  ## Bring back the course's chapter and keep yours: make reset CH=1
	@$(START) run lab python -m scripts.reset_chapter "$(CH)"

badges:  ## Stamp Colab badges and set-up cells: make badges REPO=owner/name
	@$(START) run lab python -m scripts.badges "$(REPO)"

constraints:  ## Resolve constraints.txt anew, with uv, for all systems and Pythons
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade \
	  --no-annotate --no-header --output-file constraints.txt

install:  ## Install only: make install EXTRAS="lab test"
	$(START) install $(or $(EXTRAS),lab)

clean:  ## Remove the environment and caches
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
