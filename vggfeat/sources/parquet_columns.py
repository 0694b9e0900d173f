"""Which columns of a Parquet file hold images, their names, classes, splits and groups."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, fields
from typing import Any, Self
from urllib.parse import quote, unquote

from vggfeat.errors import SourceError
from vggfeat.labels.files import LABEL_COLUMNS
from vggfeat.labels.splits import GROUP_COLUMNS, SPLIT_COLUMNS

_IMAGES = ("image", "images", "img", "picture", "photo")
"""Names that tell the image among several columns that hold files."""

_NONE = "none"
_SHOWN = 12
_PAIR = re.compile(r"(\w+)[:=](.+)")


@dataclass(frozen=True, slots=True)
class Choice:
    """The columns that a person names, behind ``#``: ``data.parquet#image:photo,label:breed``.

    Attributes
    ----------
    image, path, label, split, group : str
        A column; ``none`` for no such thing; empty where it is found by itself.
    """

    image: str = ""
    path: str = ""
    label: str = ""
    split: str = ""
    group: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what stands behind ``#``; ``%2C`` stands for a comma in a name.

        Raises
        ------
        SourceError
            It names no column.
        """
        known = [field.name for field in fields(cls)]
        found = {}
        for pair in text.split(",") if text else ():
            match = _PAIR.fullmatch(pair.strip())
            if match is None or match[1] not in known or match[1] in found:
                raise SourceError(
                    f"{pair!r} behind # names no column. Write #image:COLUMN,label:COLUMN; known "
                    f"are {', '.join(known)}, each once."
                )
            found[match[1]] = unquote(match[2])
        return cls(**found)

    def text(self, *kinds: str) -> str:
        """Return what :meth:`parse` read, for those kinds or for all; with its ``#``."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        pairs = [
            f"{kind}:{quote(name, safe=' /')}"
            for kind, name in named.items()
            if name and (not kinds or kind in kinds)
        ]
        return "#" + ",".join(pairs) if pairs else ""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where things are in a Parquet file; paths of its leaves as in ``image.bytes``.

    Attributes
    ----------
    image : str
        Bytes of image files.
    path : str
        Their names; empty where there are none, as for the others.
    label, split, group : str
    names : tuple of str
        Of an integer label: class names by number; empty where the file says none.
    """

    image: str
    path: str = ""
    label: str = ""
    split: str = ""
    group: str = ""
    names: tuple[str, ...] = ()


def split_choice(given: str) -> tuple[str, Choice]:
    """Split a path into itself and the columns behind ``#``; names may have a ``#`` of their own.

    Raises
    ------
    SourceError
        See :meth:`Choice.parse`.
    """
    path, sign, text = given.rpartition("#")
    if not sign or os.path.lexists(given):
        return given, Choice()
    match = _PAIR.match(text)
    if match is None or match[1] not in (field.name for field in fields(Choice)):
        return given, Choice()
    return path, Choice.parse(text)


def choose(schema: Any, choice: Choice, file: str) -> Columns:
    """Find the columns of a file.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the file; what Hugging Face's library writes into its metadata is heeded.
    choice : Choice
        What a person names.
    file : str
        Its name, for messages.

    Raises
    ------
    SourceError
        A column that is named is not there or holds something else, none holds images, or it is
        not clear which one does.
    """
    features = _features(schema)
    for kind in (field.name for field in fields(choice)):
        name = getattr(choice, kind)
        if name and name != _NONE and schema.get_all_field_indices(name) == []:
            raise SourceError(
                f"{file!r} has no column {name!r} ({kind}). It has {_described(schema)}."
            )
    image, inner = _image(schema, features, choice, file)
    label = _label(schema, features, choice, file)
    return Columns(
        image + inner,
        _path(schema, image if inner else "", choice, file),
        label,
        _named(schema, choice.split, SPLIT_COLUMNS),
        _named(schema, choice.group, GROUP_COLUMNS),
        _class_names(features.get(label)) or () if label else (),
    )


def _image(schema: Any, features: dict[str, Any], choice: Choice, file: str) -> tuple[str, str]:
    """Return the column of images, and where in it the bytes are."""
    holds = {field.name: inner for field in schema if (inner := _bytes_in(field.type)) is not None}
    how = "Name the one that holds images: FILE.parquet#image:COLUMN."
    if choice.image:
        if choice.image not in holds:
            kind = schema.field(choice.image).type if choice.image != _NONE else "not a column"
            raise SourceError(
                f"The column {choice.image!r} of {file!r} is {kind}. Images are bytes, or a struct "
                f"of bytes and path. The columns are {_described(schema)}."
            )
        return choice.image, holds[choice.image]
    said = [name for name in holds if _type_of(features.get(name)) == "Image"]
    likely = said or list(holds)
    if len(likely) > 1:
        likely = [name for name in likely if name.lower() in _IMAGES] or likely
    if len(likely) == 1:
        return likely[0], holds[likely[0]]
    if not likely:
        raise SourceError(
            f"{file!r} has no column of images: bytes, or a struct of bytes and path. It has "
            f"{_described(schema)}."
        )
    raise SourceError(
        f"{file!r} has {len(likely)} columns that may hold images, {', '.join(likely)}. {how}"
    )


def _path(schema: Any, image: str, choice: Choice, file: str) -> str:
    if choice.path:
        if choice.path != _NONE and not _is_text(schema.field(choice.path).type):
            raise SourceError(
                f"The column {choice.path!r} of {file!r} is {schema.field(choice.path).type}, no "
                f"text, and cannot name images. The columns are {_described(schema)}."
            )
        return "" if choice.path == _NONE else choice.path
    if not image:
        return ""
    inner = {one.name: one.type for one in schema.field(image).type}
    return f"{image}.path" if "path" in inner and _is_text(inner["path"]) else ""


def _label(schema: Any, features: dict[str, Any], choice: Choice, file: str) -> str:
    if choice.label == _NONE:
        return ""
    if choice.label:
        if not _is_label(schema.field(choice.label).type):
            raise SourceError(
                f"The column {choice.label!r} of {file!r} is {schema.field(choice.label).type}. "
                "Labels are numbers, text, or lists of them. The columns are "
                f"{_described(schema)}."
            )
        return choice.label
    by_name = {name.lower(): name for name in schema.names if _is_label(schema.field(name).type)}
    for name in LABEL_COLUMNS:
        if name in by_name:
            return str(by_name[name])
    said = [name for name in by_name.values() if _class_names(features.get(name)) is not None]
    if len(said) > 1:
        raise SourceError(
            f"{file!r} has {len(said)} columns of classes, {', '.join(said)}. Name one, or none: "
            f"FILE.parquet#label:{said[0]} or #label:none."
        )
    return str(said[0]) if said else ""


def _named(schema: Any, chosen: str, headings: tuple[str, ...]) -> str:
    """Return the column of text that is chosen, or else called by one of some names."""
    if chosen:
        return "" if chosen == _NONE else chosen
    plain = {
        re.sub(r"[\s-]+", "_", name.lower()): name
        for name in schema.names
        if _is_label(schema.field(name).type) and not _is_list(schema.field(name).type)
    }
    # Flags such as is_train say another thing in a table of numbers.
    meant = next((name for name in headings if name in plain and name[:3] != "is_"), "")
    return str(plain[meant]) if meant else ""


def _features(schema: Any) -> dict[str, Any]:
    """Return what Hugging Face's library wrote of the columns; empty where it did not."""
    text = (schema.metadata or {}).get(b"huggingface", b"")
    try:
        features = json.loads(text)["info"]["features"] if text else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _type_of(feature: Any) -> str:
    kind = feature.get("_type") if isinstance(feature, dict) else ""
    return kind if isinstance(kind, str) else ""


def _class_names(feature: Any) -> tuple[str, ...] | None:
    """Return the class names of a column; None where it is none of classes."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if _type_of(feature) in ("Sequence", "List", "LargeList"):
        feature = feature.get("feature")
    if _type_of(feature) != "ClassLabel":
        return None
    names = feature.get("names")
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return ()


def _bytes_in(kind: Any) -> str | None:
    """Return where bytes are within a column: in itself (empty), or below; None if nowhere."""
    import pyarrow.types as types

    def is_bytes(one: Any) -> bool:
        plain = types.is_binary(one) or types.is_large_binary(one) or types.is_binary_view(one)
        return bool(plain or types.is_fixed_size_binary(one))

    if is_bytes(kind):
        return ""
    if types.is_struct(kind):
        return next((".bytes" for one in kind if one.name == "bytes" and is_bytes(one.type)), None)
    return None


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_label(kind: Any) -> bool:
    import pyarrow.types as types

    if _is_list(kind):
        kind = kind.value_type
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return bool(number or _is_text(kind))


def _described(schema: Any) -> str:
    more = f" and {len(schema) - _SHOWN} more" if len(schema) > _SHOWN else ""
    return ", ".join(f"{one.name} ({one.type})"[:100] for one in list(schema)[:_SHOWN]) + more
