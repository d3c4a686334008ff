# The two commands a newcomer needs: make demo, make test. Both install what is missing and build into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
export PYTHON
V := .venv/bin
SOURCES := pyproject.toml setup.py $(wildcard src/fastsec/_core/*.pyx src/fastsec/_core/*.pxd)
PYTEST_ARGS ?=

# $(call copy,FOLDER): the checkout without what was built, so that another kind of build stays beside this one.
define copy
	rm -rf $(1) && mkdir -p $(1)
	cp -r src tests docs scripts benchmarks *.md *.in *.toml setup.py LICENSE Makefile $(1)/
	find $(1) -name '*.so' -delete
endef

.PHONY: help demo test bench fuzz soak icount coverage debug asan leaks ct model events types lint wheel vectors clean

help:            ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

demo: .venv/.demo   ## secure real MMS traffic between a plain client and a plain server, then attack it
	$(V)/fastsec demo

test: .venv/.test   ## the whole test suite
	$(V)/python -m pytest $(PYTEST_ARGS)

bench: .venv/.bench  ## every benchmark, ratios measured in one run
	for case in record handshake echo memory gateway; do $(V)/fastsec bench $$case || exit $$?; done

soak: .venv/.test  ## a server among 200 honest associations and all attackers for minutes: SOAK_SECONDS, SOAK_ASSOCIATIONS
	cd tests && ../$(V)/python -m soak

icount: .venv/.bench  ## instructions per operation under callgrind, a base commit against HEAD; fails above + 3 %
	$(V)/python benchmarks/icount.py

# The floors below the adapters are octets in, octets out: these folders test them without processes or sockets.
COVERAGE_TESTS := tests/_core tests/aio/test_replay.py tests/aio/test_replay_model.py tests/envs tests/mms tests/pki tests/reference tests/secpdu \
	$(filter-out $(patsubst %,tests/test_%.py,events_table icount packaging readme system_packages tutorial),$(wildcard tests/test_*.py))
coverage: .venv/.test  ## branches that the tests take in engine, environments, pki and _core; fails below 95 %
	$(call copy,build/coverage-tree)
	cd build/coverage-tree && FASTSEC_COVERAGE=1 ../../$(V)/python setup.py -q build_ext --inplace
	cd build/coverage-tree && PYTHONPATH=src ../../$(V)/python -m coverage run -m pytest -p no:cacheprovider $(COVERAGE_TESTS) $(PYTEST_ARGS)
	cd build/coverage-tree && ../../$(V)/python -m coverage combine -q && ../../$(V)/python scripts/coverage_report.py . $(COVERAGE_ARGS)

debug: .venv/.test  ## build _core with bounds checks, line tracing and assertions, and test it
	$(call copy,build/debug-tree)
	cd build/debug-tree && FASTSEC_DEBUG=1 ../../$(V)/python setup.py -q build_ext --inplace
	cd build/debug-tree && PYTHONPATH=src FASTSEC_CHECKED=1 ../../$(V)/python -m pytest -m 'not interop' \
		--ignore tests/test_packaging.py --timeout 600 $(PYTEST_ARGS)

# The processes that tests start inherit all this. What cannot run so is listed, with reasons, in tests/asan-deselected.txt.
asan: .venv/.test  ## build _core with AddressSanitizer, UBSan and assertions, and run the whole suite on it
	$(call copy,build/asan-tree)
	cd build/asan-tree && FASTSEC_SANITIZE=1 ../../$(V)/python setup.py -q build_ext --inplace
	cd build/asan-tree && LD_PRELOAD="$$(cc -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc FASTSEC_CHECKED=1 \
		PYTHONPATH=src ../../$(V)/python -m pytest --timeout 600 \
		$$(sed -n 's/^tests[^ ]*/--deselect &/p' tests/asan-deselected.txt | cut -d' ' -f1,2) $(PYTEST_ARGS)

LEAK_ROUNDS ?= 5
leaks: .venv/.test  ## every kind of association under valgrind, LEAK_ROUNDS and four times as many: nothing lost, no growth
	cd tests && ../$(V)/python -m leaks --rounds $(LEAK_ROUNDS)

ct: .venv/.test  ## times of right and wrong ICVs by Welch's t-test, beside a comparison that leaks (a quiet machine helps)
	cd tests && ../$(V)/python -m ct

# With FUZZ_SANITIZE=1 the compiled code also has AddressSanitizer and UBSan: slower, sees more.
FUZZ_SECONDS ?= 600
FUZZ_JOBS ?= 2
FUZZ_SANITIZE ?=
FUZZ_ARGS ?=
fuzz_tree = build/fuzz$(if $(FUZZ_SANITIZE),-sanitize)-tree
fuzz: .venv/.fuzz  ## every decoder and the receive path under libFuzzer, FUZZ_SECONDS long, FUZZ_JOBS at once (docs/fuzzing.md)
	$(call copy,$(fuzz_tree))
	cd $(fuzz_tree) && FASTSEC_FUZZ=1 FASTSEC_SANITIZE=$(FUZZ_SANITIZE) ../../$(V)/python setup.py -q build_ext --inplace
	cd $(fuzz_tree) && PYTHONPATH=src:tests ../../$(V)/python -m fuzz.campaign --seconds $(FUZZ_SECONDS) --jobs $(FUZZ_JOBS) \
		$(if $(FUZZ_SANITIZE),--sanitized) --corpus ../fuzz-corpus --findings ../fuzz-findings \
		--commit "$$(git describe --always --dirty 2>/dev/null)" $(FUZZ_ARGS)

model: .venv/.test  ## check the formal model: no attack on the protocol, one on every mutation (about 3 min)
	$(V)/python tests/model/check.py

events: .venv/.test  ## write the table of "fastsec events list" anew from the source and the markers of the tests
	$(V)/python scripts/events_table.py

types: .venv/.lint  ## mypy --strict, and the stubs of the extensions against the extensions
	$(V)/python -m mypy
	MYPYPATH=src $(V)/python -m mypy.stubtest --mypy-config-file pyproject.toml --allowlist scripts/stubtest-allowlist.txt $(patsubst src/fastsec/_core/%.pyx,fastsec._core.%,$(wildcard src/fastsec/_core/*.pyx))

lint: .venv/.lint   ## ruff: rules and format
	$(V)/ruff check src tests benchmarks scripts setup.py
	$(V)/ruff format --check src tests benchmarks scripts setup.py

wheel: .venv/.build  ## sdist, and the wheel built from the sdist, in dist/
	rm -rf dist && $(V)/python -m build --outdir dist

vectors: .venv/.test  ## write the test vectors anew from the reference implementation
	$(V)/python tests/vectors/generate.py

clean:           ## remove what was built
	rm -rf build dist .venv src/*.egg-info
	find src -name '*.so' -delete

# --- set-up: system packages, then .venv with the package built in place ------------------------------------------
.venv/bin/python:
	scripts/system-packages.sh build
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'fastsec needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(V)/python -m pip install -q --disable-pip-version-check -U pip

.venv/.demo: .venv/bin/python $(SOURCES)
	scripts/system-packages.sh build
	$(V)/python -m pip install -q --disable-pip-version-check -e '.[demo]'
	@touch $@

.venv/.test: .venv/bin/python $(SOURCES) scripts/system-packages.sh
	scripts/system-packages.sh test
	$(V)/python -m pip install -q --disable-pip-version-check -e '.[demo,test]'
	@touch $@ .venv/.demo

.venv/.lint: .venv/.test
	$(V)/python -m pip install -q --disable-pip-version-check -e '.[demo,test,lint]'
	@touch $@

.venv/.fuzz: .venv/.test
	scripts/system-packages.sh fuzz
	$(V)/python -m pip install -q --disable-pip-version-check -e '.[demo,test,fuzz]'
	@touch $@

.venv/.build: .venv/bin/python
	scripts/system-packages.sh build
	$(V)/python -m pip install -q --disable-pip-version-check 'build>=1.2'
	@touch $@

.venv/.bench: .venv/bin/python $(SOURCES)
	scripts/system-packages.sh bench
	$(V)/python -m pip install -q --disable-pip-version-check -e '.[demo,bench]'
	@touch $@ .venv/.demo
