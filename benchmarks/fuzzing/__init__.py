"""Kinds of files for ``benchmarks/fuzz.py``, how they are mutated, and workers that use them.

A kind of file is a file here with a tuple ``KINDS``, and its place in
:data:`fuzzing.registry.KINDS`.
"""
