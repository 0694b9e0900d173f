"""``python -m vggfeat``."""

from vggfeat.cli import run

run()
