"""Where images come from: a folder, an image, a list, archives, tables.

:func:`open_source` lists a source at once and opens its images one by one, from any thread.
"""

from vggfeat.files import decode_path, encode_path
from vggfeat.sources.base import Entry, FileSource, Source
from vggfeat.sources.crops import CropSource
from vggfeat.sources.elsewhere import ARCHIVES, LISTS
from vggfeat.sources.folder import open_folder
from vggfeat.sources.lists import ListSource
from vggfeat.sources.opening import open_source, open_sources
from vggfeat.sources.originals import Known, Originals, OtherImageError, split_root
from vggfeat.sources.several import SeveralSources, within
from vggfeat.sources.stacks import StackSource
from vggfeat.sources.stored import OutsideSourceError, open_stored, why_not_shown
from vggfeat.storage.urls import is_remote

__all__ = [
    "ARCHIVES",
    "LISTS",
    "CropSource",
    "Entry",
    "FileSource",
    "Known",
    "ListSource",
    "Originals",
    "OtherImageError",
    "OutsideSourceError",
    "SeveralSources",
    "Source",
    "StackSource",
    "decode_path",
    "encode_path",
    "is_remote",
    "open_folder",
    "open_source",
    "open_sources",
    "open_stored",
    "split_root",
    "why_not_shown",
    "within",
]
