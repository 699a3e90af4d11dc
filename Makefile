# Two commands for a newcomer: `make demo` and `make test`. Both make .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
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

# .venv/.unfinished lies there while packages are written: what was broken off is made afresh, not repaired.
$(STAMP): requirements.lock pyproject.toml
	@sh scripts/make-venv $(PYTHON)
	@touch .venv/.unfinished
	@echo "installing into .venv ..."
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-build-isolation --no-deps -e .
	@rm .venv/.unfinished && touch $@

$(STAMP_DEV): requirements-dev.lock $(STAMP)
	@rm -f $(STAMP) && touch .venv/.unfinished
	@echo "installing the tools of the tests into .venv ..."
	@$(PIP) --require-hashes -r requirements-dev.lock
	@rm .venv/.unfinished && touch $(STAMP) $@

check: $(STAMP_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	@sh scripts/ensure-browser
	$(BIN)/pytest -n 2 -rs

lock:
	sh scripts/make-lock

clean:
	rm -rf .venv dist build runs
