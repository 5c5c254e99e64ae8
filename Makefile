# make demo: segment a real scan.  make test: every test.  Both make .venv first.
PYTHON ?= python3

.PHONY: demo test check clean

demo: .venv/ready
	rm -rf demo
	.venv/bin/python examples/demo.py

test: .venv/ready
	.venv/bin/python -m pytest -q

check: .venv/ready
	scripts/check

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch .venv/ready

clean:
	rm -rf .venv demo
