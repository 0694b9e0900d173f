"""The demo: the whole chain on pictures that travel with scikit-learn.

:mod:`pictures` writes them, :mod:`commands` says what is run on them, :mod:`diary` keeps what has
been run, and :mod:`page` shows what came of it; the command that runs them is ``cli/demo.py``.
"""
