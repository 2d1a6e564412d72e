# make bench: run the default suite to its figures.   make test: run the tests, on all cores.
# make test-peers: install torchode, torchdyn and diffrax as well, and test how they agree.
# make test-report: open a report in Chromium, without a window; installs it where apt-get can.
# make test-cluster: install Ray as well, and test runs on a cluster of this machine.
# make test-faults: kill runs, fail their writes, damage their files; writes down what came out.
#   Takes half an hour on two cores.
# make check: compare gradient errors and peak memory with the references.
# They create .venv and install into it what constraints.txt pins.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

.PHONY: bench test test-report test-peers test-cluster test-faults check lint format clean

bench: $(VENV)/installed
	$(VENV)/bin/python run_bench.py $(ARGS)

test: $(VENV)/installed
	$(VENV)/bin/python -m pytest --numprocesses auto --dist worksteal

test-peers: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev,peers]'
	$(VENV)/bin/python -m pytest tests/bench/peers

CHROMIUM = command -v chromium chromium-browser google-chrome >/dev/null

test-report: $(VENV)/installed
	@$(CHROMIUM) || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get -qq update \
		&& apt-get -qq install --yes --no-install-recommends chromium >/dev/null; } || true
	@$(CHROMIUM) || echo "skipped: install chromium or Chrome to test the report in a browser"
	$(VENV)/bin/python -m pytest -m browser tests/plots

# Ray ends the process, here pytest, that has lost the head of its cluster, without a result. What
# Ray wrote is shown then, and the tests are run once more. Tests that fail are not.
TEST_CLUSTER = $(VENV)/bin/python -m pytest \
	tests/bench/execution/test_ray_cluster.py tests/faults/test_cluster.py \
	--junitxml $(VENV)/cluster.xml
RAY_ERRORS = grep -hr ' [EC] ' /tmp/ray/session_latest/logs | tail -n 20

test-cluster: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev,ray]'
	rm -f $(VENV)/cluster.xml
	$(TEST_CLUSTER) || { test ! -e $(VENV)/cluster.xml && $(RAY_ERRORS) && $(TEST_CLUSTER); }

test-faults: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev,ray]'
	$(VENV)/bin/python -m pytest -m 'faults or fault' tests \
		--faults-report results/reference/faults.md

check: $(VENV)/installed
	$(VENV)/bin/python run_bench.py --suite gradients --check
	$(VENV)/bin/python run_bench.py --suite memory --check

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	touch $@
