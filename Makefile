# Two commands for a newcomer: `make demo` and `make test`. Both make .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
STAMP_DEV := .venv/.installed-dev

.PHONY: help demo test check lock clean

help:
	@echo "make demo    install into .venv and plan examples/memphis-2024.yaml"
	@echo "make test    install into .venv and run the whole test suite"
	@echo "make check   style, types and import arrows only"
	@echo "make lock    write the lock files anew"

demo: $(STAMP)
	@$(BIN)/makespan plan examples/memphis-2024.yaml -o runs/memphis-2024

$(STAMP): requirements.lock pyproject.toml
	@sh scripts/make-venv $(PYTHON)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

$(STAMP_DEV): requirements-dev.lock $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

check: $(STAMP_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	@sh scripts/ensure-browser
	$(BIN)/pytest -n 2

lock:
	sh scripts/make-lock

clean:
	rm -rf .venv dist build runs
