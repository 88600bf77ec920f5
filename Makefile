# make run     environment, build, and the main job on real photographs
# make test    environment, build, and all tests
# make cuda-check  nvcc's report on the CUDA kernels against their budget: ARCHS="80 120" chooses
# make cuda-extension  zoo built for CUDA into build/cuda, imported; needs nvcc, but no GPU
# make gpu     on a machine with a GPU: zoo built for it, its tests, benchmarks and the record of them
# make check   format, lint, types, layers, symbols of the kernel objects
# make bench-env  .venv-bench: zoo beside the inference engines, as plugins
# make keras-env  .venv-keras: Keras on TensorFlow, for benchmarks/training_step.py
# make test-engines  the tests of these plugins there
# make wheel   wheels of zoo and its plugins in dist/
#
# Everything happens inside .venv; PYTHON names the interpreter that it is made with.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
JOBS   := -j$(shell nproc 2>/dev/null || echo 2)
PLUGINS := plugins/zoo-timm plugins/zoo-efficientnet-lite
ENGINES := plugins/zoo-onnxruntime plugins/zoo-openvino plugins/zoo-ncnn plugins/zoo-mnn

CPP_FILES := $(shell find csrc tests/csrc tests/simt -name '*.cpp' -o -name '*.h' -o -name '*.cu*')
SOURCES   := setup.py $(shell find csrc -type f)

.DEFAULT_GOAL := help
.PHONY: help install run test pytest ctest simt cuda-check cuda-extension gpu check format asan bench bench-env keras-env test-engines wheel wheel-check clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# --- environment and build -------------------------------------------------------------------

# setup.py compiles against torch, so torch comes first and build isolation is off.
$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zoo needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q --upgrade pip setuptools wheel
	$(PIP) install -q -c constraints.txt torch torchvision pybind11 ninja numpy
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml $(SOURCES) $(PLUGINS:%=%/pyproject.toml)
	$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[demo,plot,train,evaluation,dev]' $(PLUGINS:%=-e %)
	@touch $@

install: $(VENV)/.installed

# --- the main job ------------------------------------------------------------------------------

run: install
	@echo '--- models (the first of the list)'
	@$(BIN)/zoo list-models --limit 10
	@echo; echo '--- what is in these two photographs? (ImageNet weights, float32)'
	@$(BIN)/zoo predict --model efficientnet-lite/efficientnet_lite0 --topk 3 \
	    "$$($(BIN)/python -c 'import sklearn, pathlib; print(pathlib.Path(sklearn.__file__).parent / "datasets/images")')"
	@echo; echo '--- fused convolution beside the builtins of PyTorch'
	@$(BIN)/zoo bench --op conv2d --threads 1 --shape 1,64,56,56,64,3,1,1 --shape 1,3,32,32,32,3,1,1 \
	    --shape 1,96,28,28,96,3,1,1,96

# --- tests and checks --------------------------------------------------------------------------

test: pytest ctest simt

# One process for each processor, and so one thread in each, but where a test asks for more.
pytest: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(shell nproc 2>/dev/null || echo 2) --dist worksteal

# The kernels alone, without torch: as they are, then under the address and UB sanitizers.
ctest: install
	$(MAKE) $(JOBS) -C tests/csrc test asan PYTHON=$(abspath $(BIN)/python)

# The CUDA kernels' bodies on the host: neither CUDA nor a GPU.
simt:
	$(MAKE) $(JOBS) -C tests/simt test races

# Where there is no nvcc, it says so and passes.
cuda-check:
	$(MAKE) $(JOBS) -C tests/simt cuda-check PYTHON=$(PYTHON)

# By the interpreter in build/cuda, which finds that package before the one of this folder.
cuda-extension: install
	ZOO_CUDA=1 $(if $(ARCHS),TORCH_CUDA_ARCH_LIST="$$(echo $(ARCHS) | sed 's/[0-9]\( \|$$\)/.&/g')") \
	    $(BIN)/python setup.py -q build --build-lib build/cuda
	cd build/cuda && $(abspath $(BIN)/python) -m zoo ops > /dev/null

gpu: install
	$(BIN)/python benchmarks/gpu.py

asan: install
	$(MAKE) -C tests/csrc asan PYTHON=$(abspath $(BIN)/python)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(CPP_FILES)
	$(MAKE) $(JOBS) -C tests/csrc symbols PYTHON=$(abspath $(BIN)/python)

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_FILES)

# --- benchmarks and release ----------------------------------------------------------------------

bench: install
	$(BIN)/zoo bench --op conv2d --set all

# Apart from .venv, because neither zoo nor its tests need the engines.
bench-env:
	$(MAKE) install VENV=.venv-bench
	.venv-bench/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt -r benchmarks/requirements.txt
	.venv-bench/bin/python -m pip --disable-pip-version-check install -q --no-build-isolation \
	    -c constraints.txt $(ENGINES:%=-e %)

# Keras alone: TensorFlow and torch need not agree on the versions of anything.
keras-env:
	$(PYTHON) -m venv .venv-keras
	.venv-keras/bin/python -m pip --disable-pip-version-check install -q -r benchmarks/requirements-keras.txt

test-engines: bench-env
	.venv-bench/bin/python -m pytest tests/compiler/test_engines.py plugins/zoo-ncnn

wheel: install
	rm -rf build/lib.* # modules that were deleted since would be packed
	$(PIP) wheel -q --no-build-isolation --no-deps -w dist . $(PLUGINS:%=./%) $(ENGINES:%=./%)
	@ls dist/*.whl

# The wheel in a clean environment that has no compiler.
wheel-check: wheel
	sh tests/wheel_check.sh

clean:
	rm -rf build dist *.egg-info zoo/*.so
