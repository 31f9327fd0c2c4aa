# `make demo` and `make test` need Python 3.10-3.13 and nothing else: each makes the virtual environment it runs in.

# A worker a core; the tests of one file stay together, for they share what is slow to make. In the order of the files: the other puts those with
# one long test last, where one core waits for the other.
PYTEST ?= -n auto --dist loadfile --no-loadscope-reorder
VENV ?= .venv
UNPACKED := $(CURDIR)/dist/unpacked
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: demo test mlserver lint docs wheel wheel-test clean

demo: $(VENV)/.for-use
	$(BIN)/privpart-keras demo $(DEMO)

# The tests of pages open them in a browser.
BROWSER := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

test: $(VENV)/.for-development
	@test -n "$(BROWSER)" || echo "Found no chromium, chromium-browser or google-chrome: the tests that open pages in a browser" \
		"are skipped. Install one, on Debian: apt-get update && apt-get install --yes chromium" >&2
	$(BIN)/python -m pytest $(PYTEST)

# A genuine server of the Open Inference Protocol, for the tests that ask one: MLServer, apart, since it wants other versions of what TensorFlow uses.
mlserver:
	test -x .venv-mlserver/bin/mlserver || { $(PYTHON) -m venv .venv-mlserver && .venv-mlserver/bin/python $(PIP_INSTALL) mlserver onnxruntime; }

# mypy does not follow an editable install to serving/ and cli/: it reads the package as it installs, put together of links.
TYPED := $(CURDIR)/build/typed
lint: $(VENV)/.for-development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf $(TYPED) && mkdir -p $(TYPED)/keras_privpart
	ln -s $(CURDIR)/keras_privpart/* $(CURDIR)/serving $(CURDIR)/cli $(TYPED)/keras_privpart/
	MYPYPATH=$(TYPED) $(BIN)/mypy -p keras_privpart

# The documentation site, in site/. Strict: a broken link or a name without documentation ends it.
docs: $(VENV)/.for-development
	$(BIN)/python -m mkdocs build --strict --quiet

# sdist and wheel, the wheel made from the sdist.
wheel: $(VENV)/.for-development
	rm -rf build dist
	$(BIN)/python -m build --outdir dist .
	rm -rf build
	$(BIN)/python -m twine check --strict dist/*
	@$(BIN)/python -c "import sys, zipfile as z; t = {n.split('/')[0] for n in z.ZipFile(sys.argv[1]).namelist()}; \
	    extra = {n for n in t if not n.startswith('keras_privpart')}; sys.exit(f'the wheel holds {extra} besides the package' if extra else 0)" dist/*.whl

# From another directory, against the wheel's own files, which come before the editable install: the tests that go through all of the
# package, every command among them.
WHEEL_TESTS := $(addprefix $(CURDIR)/tests/,test_layout.py cli/test_chain.py cli/test_commands.py cli/playground \
	cli/test_playground_command.py serving/client/test_client.py)
FROM_WHEEL := cd / && PYTHONPATH=$(UNPACKED) $(abspath $(BIN))/python
wheel-test: wheel
	$(BIN)/python $(PIP_INSTALL) --no-deps --target $(UNPACKED) dist/*.whl
	$(FROM_WHEEL) -c "from keras_privpart import cli, serving; assert cli.__file__.startswith('$(UNPACKED)'), cli.__file__"
	$(FROM_WHEEL) -m pytest --rootdir $(CURDIR) -c $(CURDIR)/pyproject.toml -p no:cacheprovider $(WHEEL_TESTS) $(PYTEST)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Found no Python 3.10-3.13; install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.for-use: setup.py | $(VENV)/bin/python
	$(BIN)/python $(PIP_INSTALL) --editable ".[report]"
	touch $@

$(VENV)/.for-development: setup.py | $(VENV)/bin/python
	$(BIN)/python $(PIP_INSTALL) --editable ".[dev]"
	touch $@ $(VENV)/.for-use

clean:
	rm -rf $(VENV) build dist site *.egg-info
