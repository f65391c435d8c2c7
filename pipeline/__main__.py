"""``python -m pipeline``: the same as the ``callscribe`` program."""

from pipeline.cli.main import run

run()
