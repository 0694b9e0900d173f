"""What images show: class names from folders, tables and lists, and how a run asks for them."""

from vggfeat.labels.files import LabelFile, read_label_file
from vggfeat.labels.matching import Matching, match
from vggfeat.labels.names import (
    FixedLabels,
    RawLabels,
    class_name,
    folder_level,
    from_folders,
    in_order,
)
from vggfeat.labels.wanted import Origin, Wanted

__all__ = [
    "FixedLabels",
    "LabelFile",
    "Matching",
    "Origin",
    "RawLabels",
    "Wanted",
    "class_name",
    "folder_level",
    "from_folders",
    "in_order",
    "match",
    "read_label_file",
]
