# `make verify` verifies the five labs; `make test` tests the suite itself. Each makes .venv on first use.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin

# On a Jetson, torch and TensorRT are JetPack's own: the environment sees them, and no lock applies.
ifeq ($(shell uname -m),aarch64)
VENV_FLAGS := --system-site-packages
REQUIREMENTS := requirements.txt
else
REQUIREMENTS := requirements.lock
endif

.PHONY: verify test test-slow test-browser test-jetpack test-pythons fuzz mutants rehearsal bench lint messages lock clean system

verify: $(VENV)/ready system
	$(BIN)/python -m pytest --report=results $(ARGS)

# Grading's half beside the rest: it waits for sandboxes more than it computes.
QUICK := -m "not slow" --timeout=600
test: $(VENV)/ready system
	mkdir -p .cache; $(BIN)/python -m pytest tests/suite/grading $(QUICK) $(ARGS) >.cache/grading.log 2>&1 & beside=$$!; \
	$(BIN)/python -m pytest tests/suite --ignore=tests/suite/grading $(QUICK) $(ARGS); status=$$?; \
	wait $$beside || status=1; cat .cache/grading.log; .ci/system --say; exit $$status

# bubblewrap and libseccomp2, where they are missing and this user may install them.
system:
	@.ci/system

test-slow: $(VENV)/ready
	$(BIN)/python -m pytest tests/suite -m slow $(ARGS)

# Needs chromium and chromium-driver; npm brings axe-core, which looks for what keeps people from reading.
test-browser: $(VENV)/ready
	-npm install --silent --no-save --prefix .cache axe-core@4
	$(BIN)/python -m pytest tests/suite/report/test_report_browser.py tests/suite/grading/test_class_browser.py $(ARGS)

lint: $(VENV)/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	mkdir -p .cache/types && ln -sfn ../.. .cache/types/trtverify
	$(BIN)/mypy -p trtverify.fixtures -p trtverify.grading
	$(BIN)/mypy tests benchmarks labs docs templates conftest.py trtverify

bench: $(VENV)/ready
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.grading
	$(BIN)/python -m benchmarks.class_report

# Every reader of students' bytes, so many seconds each; what one stumbles over is kept in fuzz-found/.
FUZZ_SECONDS ?= 600
fuzz: $(VENV)/ready
	$(BIN)/python -m tests.suite.fuzz --seconds $(FUZZ_SECONDS) $(ARGS)

# Wrong and right work made systematically, up to so many of each kind, under five seeds; hours on two cores.
# ARGS="--trained DIR --photos DIR --backends onnxruntime tensorrt_rtx" for all of it; it goes on where it was stopped.
MUTANTS_EACH ?= 25
mutants: $(VENV)/ready
	$(BIN)/python -m benchmarks.mutants --each $(MUTANTS_EACH) --seeds 5 --work .cache/mutants --out docs/results $(ARGS)

# A class of hundreds, some of it hostile, graded while the grader is killed and the share goes away, and without all that: who
# gets what else? ARGS="--students 40 --hostile 8 --kills 1 --checks toy" for a small one; --out docs/results keeps the report.
rehearsal: $(VENV)/ready system
	$(BIN)/python -m benchmarks.rehearsal $(ARGS)

# JetPack 6.2's generation: Python 3.10, torch 2.3, NumPy 1.
test-jetpack: .venv-jetpack/ready
	.venv-jetpack/bin/python -m pytest tests/suite -m "not slow" $(ARGS)

# What needs no torch, on the oldest and the newest Python.
test-pythons:
	.ci/pythons

.venv-jetpack/ready: requirements.txt requirements-jetpack.txt
	$(or $(PYTHON310),python3.10) -m venv .venv-jetpack
	.venv-jetpack/bin/python -m pip install --quiet -r requirements.txt -c requirements-jetpack.txt
	touch $@

# After a change of words: adds what is new to the catalogs, drops what is gone, and compiles them.
CATALOG := fixtures/words/locale/zh_TW/LC_MESSAGES/verify
messages: $(VENV)/ready
	mkdir -p .cache
	$(BIN)/pybabel -q extract -F fixtures/words/locale/babel.cfg --no-location --sort-output --no-wrap -o .cache/verify.pot .
	$(BIN)/pybabel -q update -N --ignore-obsolete --no-wrap -l zh_TW -i .cache/verify.pot -o $(CATALOG).po
	$(BIN)/pybabel -q compile -i $(CATALOG).po -o $(CATALOG).mo

lock:
	uv pip compile --universal --python-version 3.10 --no-header --no-emit-index-url --no-annotate --quiet \
	  --upgrade requirements.txt requirements-dev.txt -o requirements.lock
	sed -i '1i # What CI installs, for Python 3.10-3.13 on Linux. Made with: make lock' requirements.lock

clean:
	rm -rf $(VENV) .venv-jetpack .cache results

$(VENV)/ready: $(REQUIREMENTS) pyproject.toml
	$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	$(BIN)/python -m pip install --quiet -r $(REQUIREMENTS)
	# Then `pytest` knows the suite's options wherever it is started. Not where another checkout's environment is used.
	test -L $(VENV) || $(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@
