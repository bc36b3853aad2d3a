# Everything a fresh machine with Python 3.11+ needs is done here.
PYTHON ?= python3

.PHONY: demo test clean

demo: .venv/ready
	.venv/bin/equiprune demo demo_output

test: .venv-nox/ready
	.venv-nox/bin/nox --parallel 3

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --editable '.[sevennet]'
	touch $@

.venv-nox/ready:
	$(PYTHON) -m venv .venv-nox
	.venv-nox/bin/pip install --quiet 'nox>=2026.10' 'virtualenv>=20.26'
	touch $@

clean:
	rm -rf .venv .venv-nox .nox demo_output
