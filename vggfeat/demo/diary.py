"""What a demo has done so far, kept in its folder, so that nothing is done twice."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from vggfeat._version import __version__
from vggfeat.atomic import atomic_file
from vggfeat.errors import VggfeatError

NAME = "demo.json"
MADE = [
    *("digits", "new-digits", "places", "photos", "crops"),
    *("digits.h5", "places.h5", "places-random.h5", "photos.h5"),
    *("digits.probe", "digits.index", "photos.index"),
    *("digits-sweep.png", "places-sweep.png", "probe.html", "search.html"),
    *("alike.png", "report.html"),
]
"""Everything else that a demo writes into its folder."""

WITH_PHOTOS = ["own.h5", "own.index", "own.html", "own-sweep.png"]
"""What comes of the user's own photos; the last two depend on what they are."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that was run to its end: as it can be typed again, what for, and what it printed.

    `seconds` is how long it took, and `images` how many it extracted, 0 for other commands.
    """

    command: str
    why: str
    output: str
    seconds: float
    images: int = 0


@dataclass
class Diary:
    """The state of a demo in a folder.

    Attributes
    ----------
    path : Path
        ``demo.json`` in the demo's folder.
    digits : int
        How many digits it takes; 0 before it has been decided.
    photos : str or None
        Absolute path of the user's own source of images.
    complete : bool
        Whether the report has been written.
    version : str
        Of vggfeat, that began it.
    done : list of Done
        The commands that were run, in their order.
    """

    path: Path
    digits: int = 0
    photos: str | None = None
    complete: bool = False
    version: str = __version__
    done: list[Done] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the diary of a folder, or begin one, making the folder.

        Raises
        ------
        VggfeatError
            The folder holds files of a demo's names that no demo has made.
        """
        path = folder / NAME
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            diary = cls(path, **kept | {"done": [Done(**step) for step in kept["done"]]})
        except (OSError, ValueError, KeyError, TypeError):  # none, or somebody else's
            strange = [n for n in (*MADE, *WITH_PHOTOS, NAME) if os.path.lexists(folder / n)]
            if strange:
                raise VggfeatError(
                    f"{folder} holds {', '.join(strange)}, which `vggfeat demo` did not make and "
                    "will not overwrite. Give another folder: vggfeat demo DIR"
                ) from None
            folder.mkdir(parents=True, exist_ok=True)
            return cls(path)
        if diary.version != __version__:  # other numbers, perhaps: the commands run once more
            diary.version, diary.complete, diary.done = __version__, False, []
        return diary

    def begin(self, digits: int, photos: str | None = None) -> None:
        """Decide what is taken; what was done with other pictures is to be done again."""
        if photos != self.photos:
            for path in (self.path.parent / name for name in WITH_PHOTOS):
                if path.is_dir():  # an index
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        self.digits, self.photos, self.complete, self.done = digits, photos, False, []
        self._write()

    def find(self, command: str) -> Done | None:
        """Return what is known of a command that has been run, None otherwise."""
        return next((done for done in self.done if done.command == command), None)

    def add(self, done: Done) -> None:
        """Note a command that has been run."""
        self.done.append(done)
        self._write()

    def finish(self) -> None:
        """Note that the report has been written."""
        self.complete = True
        self._write()

    def finished(self, digits: int, photos: str | None) -> bool:
        """Return whether nothing is left to do for so many digits, and for these photos."""
        names = [*MADE, *(WITH_PHOTOS[:3] if photos else [])]
        return (
            self.complete
            and digits <= self.digits
            and photos == self.photos
            and all((self.path.parent / name).exists() for name in names)
        )

    def _write(self) -> None:
        kept = {name: value for name, value in asdict(self).items() if name != "path"}
        with atomic_file(self.path) as temporary:
            temporary.write_text(json.dumps(kept, indent=1), encoding="utf-8")
