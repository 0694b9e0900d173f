"""The page and the JSON API of an index, for a browser on this machine.

Needs the extra ``vggfeat[web]``; :func:`serve` says so where it is not installed.
"""

from __future__ import annotations

from vggfeat.web.limits import Limits
from vggfeat.web.serving import serve

__all__ = ["Limits", "serve"]
