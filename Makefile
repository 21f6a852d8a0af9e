# make run    set up .venv and run the embedded experiment; says where the report is
# make test   set up .venv and run every test
# make lint   what CI checks of the sources
# make lock   resolve envs/*.in again, into the locks of .venv and of the conda environments (needs uv)

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
WITHOUT := $(VENV)/without-vllm
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Nothing of the user's own Python or Snakemake may leak in: PYTHONPATH, PYTHONSAFEPATH, ...
unexport $(filter PYTHON%,$(.VARIABLES)) SNAKEMAKE_PROFILE

.PHONY: run test lint lock clean

run: $(READY)
	snakemake --cores all $(shell test ! -e $(WITHOUT) || echo --omit-from sample)
	@cat $(WITHOUT) 2>/dev/null || echo "The report: results/mini/report/report.html"

test: $(READY)
	python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	mypy
	snakemake --lint

$(READY): envs/venv.txt envs/venv-without-vllm.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON)" \
		"is missing or older than 3.11; name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -I envs/install.py

# The versions are resolved for x86-64 Linux and Python 3.11; tests/test_environments.py holds what
# other machines need to differ. Builds of torch for CUDA bring nvidia's packages themselves.
lock: LOCK = uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	--no-header --no-annotate --override envs/venv.override.txt
lock:
	$(LOCK) envs/venv.in --output-file envs/venv.txt
	sed -i -e '/^\(nvidia\|cuda\)-/d' -e 's/^intel-.*/& ; platform_machine == "x86_64"/' envs/venv.txt
	$(LOCK) --constraint envs/venv.txt envs/venv-without-vllm.in \
		--output-file envs/venv-without-vllm.txt
	sed -i '/^\(nvidia\|cuda\)-/d' envs/venv-without-vllm.txt
	$(PYTHON) envs/lock.py

clean:
	rm -rf $(VENV) $(VENV).part
