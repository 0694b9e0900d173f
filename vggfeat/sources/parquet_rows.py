"""Rows of a Parquet file, read in place: a stream through each row group, with bounded memory.

A file may come from a stranger. What its pages unpack to, they alone say, and a dictionary of one
large value may stand for a million rows; so rows are decoded one after the other and counted, and
no row group is held as a whole unless it is small.
"""

from __future__ import annotations

import importlib.util
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate, islice
from typing import Any, BinaryIO

from vggfeat.errors import ImageError, SourceError
from vggfeat.sources.parquet_columns import Choice, Columns, choose
from vggfeat.storage.places import CHANGED, Place

LARGEST = 1 << 30
"""Bytes of the largest image: more than any within the limit of pixels."""

LARGEST_ROWS = 1 << 30
"""Bytes of images that a row group may hold, unpacked, as the file's footer says."""

WINDOW_BYTES = 64 << 20
"""Images of a row group that are kept for threads that come a little later."""

_KINDS = ("path", "label", "split", "group")  # of columns that are read beside the images
_GROUPS = 4  # row groups that are open at once: threads pass from one to the next
_READ = 1 << 20  # bytes that are read at a time
_FOOTER = 64 << 20  # bytes that texts of a footer may have
_ROW_BYTES, _SLACK = 16, 1 << 20  # an image takes more than that of a file
_LISTED = 4096  # rows of names and classes at a time
_LONGEST = 1024  # letters of a name


class Table:
    """A Parquet file of images.

    Parameters
    ----------
    place : Place
        The file.
    choice : Choice
        Columns that a person names.

    Attributes
    ----------
    columns : Columns
    rows : int
    state : State
        What the file was when this was made.

    Raises
    ------
    SourceError
        It cannot be read, or is too large to be read in parts; see also
        :func:`~vggfeat.sources.parquet_columns.choose`.
    """

    def __init__(self, place: Place, choice: Choice) -> None:
        self.place = place
        _check_installed()
        try:
            with place.open() as file:
                self.state = place.state(file)
                opened = _opened(file)
                self._metadata, schema = opened.metadata, opened.schema_arrow
        except ImageError as error:
            raise SourceError(f"Cannot read {place.name!r}: {error}.") from error
        except _arrow_errors() as error:
            raise SourceError(
                f"{place.name!r} is not a Parquet file, or incomplete: {_first(error)}. Fetch it "
                "again."
            ) from error
        self.columns: Columns = choose(schema, choice, place.name)
        counts = [
            self._metadata.row_group(n).num_rows for n in range(self._metadata.num_row_groups)
        ]
        self.rows = sum(counts)
        self._starts = list(accumulate(counts, initial=0))
        self._check(counts)

    def listed(self) -> Iterator[dict[str, list[Any]]]:
        """Read what there is beside the images, in blocks of rows.

        Yields
        ------
        dict of str to list
            By the fields of :class:`Columns` that the file has, but for the image.

        Raises
        ------
        SourceError
            The file is damaged, or has changed.
        """
        kinds = {kind: leaf for kind in _KINDS if (leaf := getattr(self.columns, kind))}
        if not kinds:
            return
        leaves = list(dict.fromkeys(kinds.values()))
        # One long text may stand for very many rows: no batch can hold more than these bytes.
        size = max((one.total_uncompressed_size for one in self._chunks(leaves)), default=0)
        count = max(1, min(_LISTED, WINDOW_BYTES // max(size, 1)))
        texts: dict[str, str] = {}
        try:
            with self.place.open() as file:
                if self.place.state(file) != self.state:
                    raise ImageError(CHANGED)
                opened = _opened(file, self._metadata)
                for batch in opened.iter_batches(count, columns=leaves, use_threads=False):
                    yield {k: _values(_leaf(batch, leaf), texts) for k, leaf in kinds.items()}
        except ImageError as error:
            raise SourceError(f"Cannot read {self.place.name!r}: {error}.") from error
        except _arrow_errors() as error:
            raise SourceError(f"{self.place.name!r} is damaged: {_first(error)}.") from error

    def group_of(self, row: int) -> tuple[int, int]:
        """Return the row group that a row is in, and its number there."""
        group = bisect_right(self._starts, row) - 1
        return group, row - self._starts[group]

    def images(self, group: int) -> Iterator[Any]:
        """Read the images of a row group, one after the other: their bytes, or None.

        Raises
        ------
        ImageError
            The file is damaged or has changed.
        """
        leaf = self.columns.image
        with self.place.open() as file:
            if self.place.state(file) != self.state:
                raise ImageError(CHANGED)
            opened = _opened(file, self._metadata)
            batches = opened.iter_batches(1, [group], [leaf], use_threads=False)
            for batch in batches:
                for value in _leaf(batch, leaf):
                    size = value.as_buffer().size if value.is_valid else 0
                    if size > LARGEST:
                        raise ImageError(f"it has {size:,} bytes, more than an image has")
                    if self.place.state(file) != self.state:
                        raise ImageError(CHANGED)
                    yield value.as_py()

    def _check(self, counts: list[int]) -> None:
        name = self.place.name
        if min(counts, default=0) < 0 or self.rows * _ROW_BYTES > self.state.size + _SLACK:
            raise SourceError(
                f"{name!r} says that it has {self.rows:,} rows, and has {self.state.size:,} bytes: "
                "it is damaged, or holds no images."
            )
        read = [leaf for kind in _KINDS if (leaf := getattr(self.columns, kind))]
        values = sum(one.num_values for one in self._chunks(read))
        if values > len(read) * self.rows + self.state.size + _SLACK:
            raise SourceError(f"{name!r} says that it has {values:,} labels: it is damaged.")
        for number, rows in enumerate(counts):
            (chunk,) = self._chunks([self.columns.image], number)
            if (size := chunk.total_uncompressed_size) > LARGEST_ROWS:
                raise SourceError(
                    f"Row group {number} of {name!r} holds {size / 2**30:.1f} GiB of images in "
                    f"{rows:,} rows; at most {LARGEST_ROWS >> 30} GiB can be read at random. Write "
                    "it again with smaller ones: pyarrow.parquet.write_table(table, FILE, "
                    "row_group_size=100)."
                )

    def _chunks(self, leaves: list[str], number: int | None = None) -> list[Any]:
        """Return what the footer says of columns in a row group, or in all of them."""
        groups = range(self._metadata.num_row_groups) if number is None else [number]
        each = [self._metadata.row_group(group) for group in groups]
        chunks = [group.column(at) for group in each for at in range(group.num_columns)]
        below = tuple(f"{leaf}." for leaf in leaves)
        return [
            one for one in chunks
            if one.path_in_schema in leaves or one.path_in_schema.startswith(below)
        ]  # fmt: skip


class Rows:
    """Images of Parquet files by their rows, for any thread.

    Parameters
    ----------
    tables : list of Table

    Notes
    -----
    Rows that are asked for more or less in order are decoded once. What is kept of them takes
    ``4 * WINDOW_BYTES`` at most, beside the largest page of each open row group.
    """

    def __init__(self, tables: list[Table]) -> None:
        self._tables = tables
        self._groups: OrderedDict[tuple[int, int], _Group] = OrderedDict()
        self._turn = threading.Lock()

    def image(self, table: int, row: int) -> bytes:
        """Return an image's bytes.

        Raises
        ------
        ImageError
            There is none in the row, or it cannot be read.
        """
        number, inner = self._tables[table].group_of(row)
        with self._turn:
            group = self._groups.pop((table, number), None)
            if group is None:
                group = _Group(self._tables[table], number)
            self._groups[table, number] = group
            left = [self._groups.popitem(last=False)[1] for _ in range(len(self._groups) - _GROUPS)]
        for one in left:
            one.close()
        value = group.get(inner)
        if value is None:
            raise ImageError("no image in this row of the table: its bytes are null")
        return value


class _Group:
    """A row group on its way: rows are decoded in order, and the last of them are kept."""

    def __init__(self, table: Table, number: int) -> None:
        self._table, self._number = table, number
        self._turn = threading.Lock()
        self._kept: OrderedDict[int, bytes | None] = OrderedDict()
        self._used = self._next = 0
        self._rows: Iterator[Any] | None = None
        self._broken: tuple[int, str] | None = None

    def get(self, row: int) -> bytes | None:
        with self._turn:
            if row in self._kept:
                return self._kept[row]
            if self._broken is not None and row >= self._broken[0]:
                raise ImageError(self._broken[1])
            if self._rows is None or row < self._next:
                self._begin()
            while self._next <= row:
                self._step()
            return self._kept[row]

    def close(self) -> None:
        with self._turn:
            self._begin()
            self._rows = None

    def _begin(self) -> None:
        if self._rows is not None:
            self._rows.close()  # type: ignore[attr-defined]  # a generator
        self._kept.clear()
        self._used = self._next = 0
        self._rows = self._table.images(self._number)

    def _step(self) -> None:
        assert self._rows is not None
        try:
            value = next(self._rows)
        except ImageError:
            self._rows = None
            raise
        except _arrow_errors() as error:
            self._rows = None
            # Nothing behind a damaged page can be found.
            said = "it has fewer rows than it says" if not str(error) else _first(error)
            reason = f"the table is damaged in row group {self._number}: {said}"
            self._broken = self._next, reason
            raise ImageError(reason) from None
        self._kept[self._next] = value
        self._used += len(value or b"")
        self._next += 1
        while self._used > WINDOW_BYTES and len(self._kept) > 1:
            self._used -= len(self._kept.popitem(last=False)[1] or b"")


def _check_installed() -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise SourceError(
            'Parquet needs pyarrow, which is not installed: `pip install "vggfeat[parquet]"`.'
        )


def _opened(file: BinaryIO, metadata: Any = None) -> Any:
    from pyarrow.parquet import ParquetFile

    return ParquetFile(
        file,
        metadata=metadata,
        buffer_size=_READ,
        pre_buffer=False,
        thrift_string_size_limit=_FOOTER,
    )


def _leaf(batch: Any, leaf: str) -> Any:
    """Return what a leaf of a batch with that leaf alone, or with others, holds."""
    if leaf in batch.schema.names:
        return batch.column(batch.schema.names.index(leaf))
    name, _, inner = leaf.rpartition(".")
    struct = batch.column(batch.schema.names.index(name))
    # flatten() knows that a struct that is null has nulls below; field() does not.
    at = [struct.type.field(n).name for n in range(struct.type.num_fields)].index(inner)
    return struct.flatten()[at]


def _values(column: Any, texts: dict[str, str]) -> list[Any]:
    """Return Python values, lists of them for lists; equal texts once, and too long ones as None.

    Parameters
    ----------
    column : pyarrow.Array
    texts : dict of str to str
        Those that came before.
    """
    if hasattr(column, "value_lengths"):
        inner = iter(_values(column.flatten(), texts))
        lengths = column.value_lengths().to_pylist()
        return [None if n is None else list(islice(inner, n)) for n in lengths]
    values = column.to_pylist()
    for at, value in enumerate(values):
        if isinstance(value, str):
            values[at] = texts.setdefault(value, value) if len(value) <= _LONGEST else None
    return list(values)


def _arrow_errors() -> tuple[type[BaseException], ...]:
    """Return Arrow's ways to say that a file is damaged, or one of another kind."""
    from pyarrow import ArrowException

    return (ArrowException, OSError, ValueError, KeyError, NotImplementedError, StopIteration)


def _first(error: BaseException) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__).rstrip(".")[:200]
