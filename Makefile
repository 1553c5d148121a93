# Needs Python 3.11, git and make; everything else goes into .venv. PYTHON=... chooses another interpreter.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check

.PHONY: setup setup-dev edit shape test test-slow fuzz torture soak lint format models bench-raster bench-edits bench-refits \
	bench-ablations bench-pie bench-shapes clean

setup: $(VENV)/.installed

$(RUN):
	@test -n "$(PYTHON)" || { echo "no Python 3.11 found: set PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(RUN)
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt requirements-extra.txt $(VENV)/.installed
	$(PIP) -r requirements-dev.txt
	$(PIP) --no-deps usd-convert-gsplat==0.1.15  # it wants one NumPy alone; the tests compare with it
	@touch $@

# Programs that the tests open written files in; once, and only where npm is there and reaches its registry.
NODE_PACKAGES := @playcanvas/splat-transform@3.7.0 babylonjs@9.28.0 babylonjs-loaders@9.28.0
$(VENV)/.tried-node: | $(RUN)
	@npm install --prefix $(VENV)/node --no-audit --no-fund --fetch-retries=1 --fetch-timeout=30000 $(NODE_PACKAGES) \
		>/dev/null 2>&1 || echo "$(NODE_PACKAGES) cannot be installed with npm: their tests are skipped (rm $@ to try again)"
	@touch $@

# A browser for the tests of pages; once, and only where Debian's packages can be installed.
$(VENV)/.tried-browser: | $(RUN)
	@command -v chromium google-chrome >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium; } \
		>/dev/null 2>&1 || echo "Chromium cannot be installed: tests of pages are skipped (rm $@ to try again)"
	@touch $@

setup-dev: $(VENV)/.installed-dev $(VENV)/.tried-node $(VENV)/.tried-browser

# The default edit: embedded model, embedded scene, no download.
edit: setup
	$(RUN) launch.py --config configs/ssd-gs.yaml

# The default change of shape: the same, with the views edited and the splat refitted.
shape: setup
	$(RUN) launch.py --config configs/shape-gs.yaml

test: setup-dev
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: setup-dev
	$(RUN) -m pytest -m slow

# Every system killed at random moments, then on disks that get full: each must end with the bytes of a run that nobody
# touched.
torture: setup-dev
	OMP_NUM_THREADS=1 $(RUN) -m tests.torture.kills --kills 20 --minutes 40
	OMP_NUM_THREADS=1 $(RUN) -m tests.torture.disks --tries 2

# 10,000 steps in one process: neither memory nor open files may grow after the first thousand.
soak: setup-dev
	OMP_NUM_THREADS=1 $(RUN) -m tests.torture.soak --steps 10000

# Breaks valid files of every format until a reader answers with anything but success or one line.
# SECONDS=60 for each format in place of 600; FORMATS="ply sog" for two of them; SEED=1 for other random numbers.
SECONDS ?= 600
SEED ?= 0
fuzz: setup-dev
	OMP_NUM_THREADS=1 $(RUN) -W ignore -m tests.fuzz --seconds $(SECONDS) --seed $(SEED) $(FORMATS)

# Style, format and types.
lint: $(VENV)/.installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m basedpyright --pythonpath $(RUN)

format: setup-dev
	$(RUN) -m ruff format .

# Trains the embedded models again; each step goes on where it was interrupted.
models: setup
	$(RUN) launch.py --run make-tiny-models
	$(RUN) launch.py --run make-tiny-ip2p
	$(RUN) launch.py --run make-tiny-lcm
	$(RUN) launch.py --run make-tiny-views

bench-raster: setup
	$(RUN) launch.py --run bench-raster

bench-edits: setup
	$(RUN) launch.py --run evaluate --config configs/bench/toy.yaml

bench-refits: setup
	$(RUN) launch.py --run evaluate --config configs/bench/refits.yaml
	$(RUN) launch.py --run evaluate --config configs/bench/refits-masked.yaml

bench-pie: setup
	test -f outputs/toy-pie-bench/mapping_file.json || $(RUN) launch.py --run make-toy-pie-bench
	$(RUN) launch.py --run reproduce-table2

bench-ablations: setup
	$(RUN) launch.py --run evaluate --config configs/bench/ablations.yaml

bench-shapes: setup
	$(RUN) launch.py --run evaluate --config configs/bench/shapes.yaml

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
