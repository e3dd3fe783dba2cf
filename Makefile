# Two commands matter: `make demo` and `make test`. Both install what they need.
PY := .venv/bin/python
# Mounting needs root. Another user gets a namespace in which it is root, where the kernel allows.
AS_ROOT := $(shell test "$$(id -u)" = 0 || echo unshare --user --map-root-user --mount)

.PHONY: demo test fuzz setup bench lock protos clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   the main job on a local mock TEE, told as a story (under 30 s)"
	@echo "make test   format, lint, types, spelling, layering and every test"
	@echo "make fuzz   ten minutes on recorded quotes, ten on every door (FUZZ='--seconds N --seed N')"
	@echo "make bench  measure; prints the figures of docs/performance.md"
	@echo "make lock   resolve requirements/*.txt again"
	@echo "make protos generate protos/*_pb2.py from the .proto files"

setup:
	@tools/setup.sh

demo: setup
	@$(AS_ROOT) $(PY) -m demo

test: setup
	@$(PY) -m pytest

fuzz: setup
	@$(PY) -m tests.fuzz $(FUZZ)
	@$(PY) -m tests.fuzz.guided $(FUZZ)

bench: setup
	@$(AS_ROOT) $(PY) -m bench

protos: setup
	@$(PY) protos/generate.py

# No index address is written into the lock files: they hold names, versions and hashes only.
UV := .venv/bin/uv pip compile -q --generate-hashes --no-header --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links
lock: setup
	@$(UV) requirements/build.in -o requirements/build.txt
	@$(UV) pyproject.toml -c requirements/build.txt -o requirements/runtime.txt
	@$(UV) pyproject.toml requirements/dev.in -c requirements/build.txt -o requirements/dev.txt

clean:
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache
