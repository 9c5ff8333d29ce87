# Two commands do everything: `make demo` and `make test`. Both call `make setup`, which is quick when done.

BACKEND := .venv/bin/python
BLENDER := .venv-blender/bin/python
BLENDER_5 := .venv-blender-5.2/bin/python
BLENDER_EXT = $(firstword $(wildcard .venv-blender/lib/python*/site-packages/bpy/*/scripts/addons_core/bl_pkg/cli/blender_ext.py))
MOTION ?=
MOTIONS ?=
BACKBONES ?=
SHOTS ?= 32

# As the backend runs (backend/models/threads.py): torch's threads sleep while they wait.
export OMP_WAIT_POLICY ?= PASSIVE

# One thread a process: the suites run side by side. They start hundreds of processes, so bytecode is kept.
TEST_ENV := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=
# Half of the backend's tests, by time.
MODELS := tests/models tests/parity tests/raster
# What runs inside Blender is tested there: in Blender 5.2, or by the backend's Python where that is missing. Torch writes a
# file for tests/motions/test_parameters.py.
INSIDE := $(if $(wildcard $(BLENDER_5)),tests/client tests/shot tests/farm $(filter-out \
	%/motions/test_parameters.py %/catalogue/test_models.py %/test_smplx_agreement.py %/test_pickles.py %/test_landmarks.py, \
	$(wildcard tests/motions/test_*.py tests/bodies/test_*.py tests/catalogue/test_*.py)))
# Jobs ask little of Blender: where there are two, the older is tested with one job from end to end and with its own exit.
JOBS := $(if $(wildcard $(BLENDER_5)),$(addprefix tests/scene/job/test_,comparison.py jobs.py model_checks.py models.py shelf.py) \
	$(addprefix tests/operators/test_,backend.py control.py fetch.py models.py queue.py))

.PHONY: setup demo test lint test-models test-backend test-blender test-blender-5 test-ray test-cluster bench parity models-table model-inputs extension body report ablation train clean

setup:
	@tools/setup.sh

demo: setup
	@$(BLENDER) demo/run.py $(if $(MOTION),--motion "$(MOTION)")

# Longest first, two at a time; one that fails keeps none of the others from running.
test: setup
	@$(MAKE) --no-print-directory -k -j2 --output-sync=target test-backend test-models test-blender-5 test-blender lint test-ray

lint: setup
	$(BACKEND) -m ruff check .
	$(BACKEND) -m ruff format --check .
	$(BACKEND) -m pyright

test-models:
	$(TEST_ENV) $(BACKEND) -m pytest -q -p no:cacheprovider $(MODELS)

test-backend:
	$(TEST_ENV) $(BACKEND) -m pytest -q -p no:cacheprovider tests $(addprefix --ignore=,$(MODELS) $(INSIDE) tests/cluster)

test-ray:
	@if $(BACKEND) -c "import ray" 2> /dev/null; then $(TEST_ENV) $(BACKEND) -m pytest -q -p no:cacheprovider tests/cluster; \
	else echo "Ray was NOT tested: make test-cluster installs it and does so"; fi

# Jobs on a Ray cluster of two nodes. Ray is some 240 MB, so that nothing else installs it.
test-cluster: setup
	$(BACKEND) -m pip install --quiet --disable-pip-version-check -e '.[cluster]'
	$(TEST_ENV) $(BACKEND) -m pytest -q -p no:cacheprovider tests/cluster

test-blender:
	$(TEST_ENV) $(BLENDER) -m pytest -q -p no:cacheprovider tests $(addprefix --ignore=,$(JOBS))

test-blender-5:
	@if [ -x $(BLENDER_5) ]; then $(TEST_ENV) $(BLENDER_5) -m pytest -q -p no:cacheprovider; \
	else echo "Blender 5.2 was NOT tested: no Python 3.13 was found by make setup"; fi

bench: setup
	$(BLENDER) bench/key_import.py
	$(BLENDER) bench/capture.py
	$(BACKEND) bench/nano_generation.py
	$(BACKEND) bench/busy.py
	$(BACKEND) bench/vae_losses.py

models-table: setup
	$(BACKEND) tools/models_table.py

model-inputs: setup
	$(BLENDER) tools/model_inputs.py
	$(BLENDER) tools/control_sheet.py

parity: setup
	$(BACKEND) tools/parity_table.py

extension: setup
	@mkdir -p dist
	$(BLENDER) $(BLENDER_EXT) validate .
	$(BLENDER) $(BLENDER_EXT) build --source-dir . --output-dir dist

body: setup
	$(BACKEND) -m pip install --quiet --disable-pip-version-check -e '.[body]'
	$(BACKEND) tools/make_body.py

# Everything under docs/evaluation. Finished shots are kept in runs/report: the same command goes on after a stop.
EVALUATE = $(BACKEND) -m maquette.backend.cli evaluate --keep runs/report $(if $(BACKBONES),--backbones "$(BACKBONES)")

report: setup
	$(EVALUATE) --shots $(SHOTS) -o docs/evaluation
	$(EVALUATE) --set dressed --shots 16 --size 128 --drop all --table-shots 4 -o docs/evaluation/dressed
	$(if $(MOTIONS),$(EVALUATE) --set real --motions "$(MOTIONS)" --shots 8 --size 128 -o docs/evaluation/real)

# docs/ablation; about half an hour of one CPU core. The same command goes on after a stop.
ablation: setup
	$(BACKEND) -m maquette.backend.cli ablate cpu --workers 1 --resume -o docs/ablation

train: setup
	$(BACKEND) -m maquette.backend.cli train nano --resume

clean:
	rm -rf dist build demo/shot.* demo/sheet.png demo/metrics.json *.egg-info
