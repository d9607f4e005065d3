# make figures    runs every experiment and draws its figure      ARGS="--quick" for a short run
# make test       runs the test suite in parallel                 ARGS="-k step" for a part of it
# make check      lints, checks the format and the types
#
# Each creates $(VENV) and installs into it on its first run. All they need is Python and make.

PYTHON ?= python3
VENV ?= .venv
# Versions are pinned by constraints-oldest.txt on Python 3.11 and by constraints.txt after it.
CONSTRAINTS ?=
TEST_EXTRAS ?= experiments,test,exact
ARGS ?=

python := $(VENV)/bin/python
constraints = $(or $(CONSTRAINTS),$$($(python) -c 'import sys; \
	print("constraints-oldest.txt" if sys.version_info < (3, 12) else "constraints.txt")'))
pip = $(python) -m pip install --quiet --disable-pip-version-check --constraint "$(constraints)"

.NOTPARALLEL:
.PHONY: figures test check clean

figures: $(VENV)/.installed-figures
	$(python) -m experiments $(ARGS)

# The processes share what they compile, in a folder that lives as long as the run.
test: $(VENV)/.installed-test
	@cache=$$(mktemp -d) && trap 'rm -rf "$$cache"' EXIT && \
	export JAX_COMPILATION_CACHE_DIR="$$cache" && \
	export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 && \
	export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1 && \
	$(python) -m pytest -n logical --dist worksteal $(ARGS)

check: $(VENV)/.installed-check
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

clean:
	rm -rf "$(VENV)"

$(VENV)/.installed-figures: extras = experiments,exact
$(VENV)/.installed-test: extras = $(TEST_EXTRAS)
$(VENV)/.installed-check: extras = check,experiments

# The build backend is installed first and then used without isolation, so that it is pinned too.
$(VENV)/.installed-%: pyproject.toml constraints.txt constraints-oldest.txt | $(VENV)/.created
	@echo "Installing diffcompare[$(extras)] into $(VENV)"
	@$(pip) hatchling editables
	@$(pip) --no-build-isolation --editable ".[$(extras)]"
	@touch "$@"

# A file of its own marks the end, because an interrupted venv has a Python without pip.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "diffcompare needs Python 3.11 or newer, but '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>&1 || true)." \
			"Name another one: make PYTHON=python3.13" >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear "$(VENV)"
	@touch "$@"
