"""`python -m dayfly.bench`."""

from .cli import app

app(prog_name="python -m dayfly.bench")
