"""What kernels call the buffers that they work on, and the numbers by which they name them.

In a checked target every kernel returns, before it touches anything outside of a buffer, the number
of that buffer; 0 is success.
"""

from __future__ import annotations

BUFFERS = ("", "inputs", "filters", "outputs", "transformed inputs", "products")
"""What the number that a kernel returns stands for."""
AT_INPUTS, AT_FILTERS, AT_OUTPUTS, AT_V, AT_M = range(1, len(BUFFERS))
