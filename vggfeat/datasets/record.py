"""What vggfeat knows of a dataset: one record, in the file of its reader."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vggfeat.datasets.layout import absolute, first
from vggfeat.errors import SourceError
from vggfeat.files import encode_path, system_reason

if TYPE_CHECKING:
    from vggfeat.datasets.dataset import Dataset
    from vggfeat.datasets.protocols import Protocol


@dataclass(frozen=True, slots=True)
class Archive:
    """A file that a dataset's makers publish.

    Attributes
    ----------
    name : str
        Of the file.
    md5 : str
        Its MD5 in hexadecimal, by which a download is checked.
    inner : str
        Another archive inside it that is to be unpacked as well; empty where there is none.
    """

    name: str
    md5: str
    inner: str = ""

    def __str__(self) -> str:
        """Return what to fetch, as a part of a sentence."""
        inside = f" and {self.inner} inside it" if self.inner else ""
        return f"{self.name} (MD5 {self.md5}){inside}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRecord:
    """A dataset: how it is read, measured and fetched.

    Attributes
    ----------
    name : str
        As on the command line.
    title : str
        Its full name.
    read : callable
        Given this record and a root, returns the :class:`~vggfeat.datasets.Dataset`.
    protocol : Protocol
        How it is measured, and what the paper got.
    archives : tuple of Archive
        All that must be fetched; empty where nothing can be.
    folder : str
        What the archives make below the folder they are unpacked in.
    places : tuple of str
        Where else below a given root its folder may be, the likeliest first.
    counts : dict of str to int
        Sizes of the complete dataset, as its reader counts them.
    download : tuple of (str, dict)
        Class of ``torchvision.datasets`` and its arguments, for each archive; empty where
        torchvision does not offer the dataset.
    """

    name: str
    title: str
    read: Callable[[DatasetRecord, str | os.PathLike[str]], Dataset]
    protocol: Protocol
    archives: tuple[Archive, ...] = ()
    folder: str = ""
    places: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    download: tuple[tuple[str, Mapping[str, str]], ...] = ()

    def open(self, root: str | os.PathLike[str]) -> Dataset:
        """Read the dataset, see :func:`vggfeat.datasets.open_dataset`."""
        return self.read(self, root)

    def find_folder(
        self, root: str | os.PathLike[str], is_it: Callable[[Path], bool], what: str
    ) -> Path:
        """Find the dataset's own folder at or below a root.

        Parameters
        ----------
        root : path
            The folder itself or one above it, as `folder` and `places` say.
        is_it : callable
            Whether a folder is the dataset's.
        what : str
            What `is_it` looks for, for the message.

        Raises
        ------
        SourceError
            It is at none of these places.
        """
        above = absolute(root)
        if not above.is_dir():
            raise SourceError(f"There is no folder {str(above)!r}. {self.how_to_fetch(above)}")
        places = (self.folder, *self.places, ".")
        for place in places:
            if (above / place).is_dir() and is_it(above / place):
                return Path(os.path.normpath(above / place))
        raise SourceError(
            f"No {self.title} in {str(above)!r}: there is no {what} in it, nor in "
            f"{', '.join(places[:-1])} below it. {self.how_to_fetch(above)}"
        )

    def how_to_fetch(self, root: Path) -> str:
        """Return a sentence that says what to download and where to unpack it."""
        files = " and ".join(map(str, self.archives))
        return (
            f"Fetch {files} of {self.title} and unpack into {str(root)!r}, so that there is "
            f"{str(root / self.folder)!r}; --download does both."
        )

    def check_images(self, folder: Path, images: Iterable[str]) -> None:
        """Raise :class:`SourceError` where listed images are not there.

        Parameters
        ----------
        folder : Path
            Where the images lie.
        images : iterable of str
            File names in `folder`.
        """
        try:
            with os.scandir(folder) as items:
                there = {encode_path(item.name) for item in items}
        except OSError as error:
            raise SourceError(f"Cannot read {str(folder)!r}: {system_reason(error)}.") from error
        listed = list(dict.fromkeys(images))
        if missing := [image for image in listed if image not in there]:
            archives = " and ".join(archive.name for archive in self.archives)
            raise SourceError(
                f"{len(missing):,} of the {len(listed):,} images that {self.name} lists are "
                f"missing in {str(folder)!r}: {first(missing, 3)}. Unpack {archives} once more."
            )
