"""What images show: class names from folders, tables and lists, and how a run asks for them."""

from vggfeat.labels.codes import ABSENT, PRESENT, UNKNOWN, as_floats, from_signs, to_signs
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
from vggfeat.labels.origin import Origin
from vggfeat.labels.request import LabelRequest
from vggfeat.labels.splits import (
    TEST,
    TRAIN,
    VAL,
    NamedLines,
    NamesByPath,
    NamesRequest,
    OwnNames,
    requested_groups,
    requested_splits,
    split_level,
)
from vggfeat.labels.targets import Targets

__all__ = [
    "ABSENT",
    "PRESENT",
    "TEST",
    "TRAIN",
    "UNKNOWN",
    "VAL",
    "FixedLabels",
    "LabelFile",
    "LabelRequest",
    "Matching",
    "NamedLines",
    "NamesByPath",
    "NamesRequest",
    "Origin",
    "OwnNames",
    "RawLabels",
    "Targets",
    "as_floats",
    "class_name",
    "folder_level",
    "from_folders",
    "from_signs",
    "in_order",
    "match",
    "read_label_file",
    "requested_groups",
    "requested_splits",
    "split_level",
    "to_signs",
]
