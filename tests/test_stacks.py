"""Images and numbers in arrays, as experiments keep them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import scipy.io
from commands import cli

from vggfeat import FeatureStore
from vggfeat.array_files import open_array
from vggfeat.errors import SourceError
from vggfeat.images import decode
from vggfeat.sources import open_source, open_stored


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (12, 20, 24, 3), np.uint8)


def mat73(path, **arrays):
    """Write what MATLAB writes with -v7.3: HDF5 behind 512 bytes, axes in reverse order."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            file[name] = values.T
            file[name].attrs["MATLAB_class"] = np.bytes_(str(values.dtype))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return path


def written(folder, kind, pixels):
    file = folder / f"stack.{kind.partition(' ')[0]}"
    match kind:
        case "npy":
            np.save(file, pixels)
        case "npy channels first":
            np.save(file, pixels.transpose(0, 3, 1, 2))
        case "h5":
            with h5py.File(file, "w") as h5:
                h5["imgBrick"], h5["other"] = pixels, np.arange(12)
        case "h5 compressed":
            with h5py.File(file, "w") as h5:
                h5.create_dataset("a/imgBrick", data=pixels, compression="gzip", chunks=True)
        case "mat":
            scipy.io.savemat(file, {"stimuli": pixels.transpose(1, 2, 3, 0), "n": 12})
        case "mat 7.3":
            mat73(file, stimuli=pixels.transpose(1, 2, 3, 0), n=np.ones((1, 1)))
    return file


@pytest.mark.parametrize(
    "kind", ["npy", "npy channels first", "h5", "h5 compressed", "mat", "mat 7.3"]
)
def test_a_stack_of_images_is_a_source_in_the_order_of_the_stimuli(tmp_path, pixels, kind):
    source = open_source(written(tmp_path, kind, pixels))
    assert [entry.path for entry in source.entries] == [f"{at:02d}" for at in range(12)]
    for at, entry in enumerate(source.entries):
        with source.open(entry) as file:
            assert np.array_equal(np.asarray(decode(file)), pixels[at])
    with open_stored(source.root, "07") as file:  # as reports and searches open it again
        assert np.array_equal(np.asarray(decode(file)), pixels[7])


@pytest.mark.parametrize("kind", ["npy", "mat", "mat 7.3"])
def test_grey_stacks_have_three_axes(tmp_path, pixels, kind):
    grey = pixels[..., 0]
    file = tmp_path / f"grey.{kind.partition(' ')[0]}"
    if kind == "npy":
        np.save(file, grey)
    elif kind == "mat":
        scipy.io.savemat(file, {"grey": grey.transpose(1, 2, 0)})
    else:
        mat73(file, grey=grey.transpose(1, 2, 0))
    source = open_source(file)
    with source.open(source.entries[11]) as image:
        assert np.array_equal(np.asarray(decode(image))[..., 1], grey[11])


def test_one_of_several_arrays_is_named(tmp_path, pixels):
    file = tmp_path / "two.h5"
    with h5py.File(file, "w") as h5:
        h5["train"], h5["test"] = pixels[:8], pixels[8:]
    with pytest.raises(SourceError, match=r"test, train. Name one: .*two.h5#test"):
        open_source(file)
    assert len(open_source(f"{file}#test").entries) == 4
    with pytest.raises(SourceError, match="no array 'val'; it has test, train"):
        open_source(f"{file}#val")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((5, 8, 8, 3)),  # floats: of which range?
        np.zeros((8, 8, 3), np.uint8),  # one image
        np.zeros((5, 8, 8, 4, 1), np.uint8),
        np.zeros((5, 8, 8, 2), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
    ],
)
def test_what_is_no_stack_of_images_is_refused(tmp_path, array):
    np.save(tmp_path / "array.npy", array)
    with pytest.raises(SourceError, match="images as uint8"):
        open_source(tmp_path / "array.npy")


def test_a_damaged_file_of_arrays_is_refused_with_a_reason(tmp_path, pixels):
    for kind in ("npy", "h5", "mat"):
        file = written(tmp_path, kind, pixels)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(SourceError, match=r"stack\.(npy|h5|mat)"):
            open_source(file)
    (tmp_path / "no.mat").write_bytes(b"nothing")
    with pytest.raises(SourceError, match="no MAT-file"):
        open_source(tmp_path / "no.mat")


def test_an_array_that_lies_in_another_file_is_not_read(tmp_path, pixels):
    written(tmp_path, "h5", pixels)
    with h5py.File(tmp_path / "link.h5", "w") as h5:
        h5["imgBrick"] = h5py.ExternalLink("stack.h5", "imgBrick")
    for spec in ("link.h5", "link.h5#imgBrick"):
        with pytest.raises(SourceError, match="link to another file"):
            open_source(tmp_path / spec)


def test_a_stack_that_changes_while_it_is_read_gives_no_image(tmp_path, pixels):
    file = written(tmp_path, "npy", pixels)
    source = open_source(file)
    np.save(file, pixels[:6])
    with pytest.raises(Exception, match="changed since it was listed"):
        source.open(source.entries[0])


def test_features_of_a_stack_are_those_of_its_images_as_files(tmp_path, pixels):
    from PIL import Image

    (tmp_path / "files").mkdir()
    for at, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "files" / f"{at:02d}.png")
    with h5py.File(tmp_path / "stimuli.hdf5", "w") as h5:
        h5["imgBrick"] = pixels
    common = ("--model", "vgg16-tiny", "--layers", "pool5", "--device", "cpu")
    for source, store in (("files", "a.h5"), ("stimuli.hdf5#imgBrick", "b.h5")):
        done = cli("extract", tmp_path / source, tmp_path / store, *common)
        assert done.returncode == 0, done.stderr
    with FeatureStore(tmp_path / "a.h5") as a, FeatureStore(tmp_path / "b.h5") as b:
        assert b.paths.tolist() == [f"{at:02d}" for at in range(12)]
        assert np.array_equal(a["pool5"][:], b["pool5"][:])
    again = cli("extract", tmp_path / "stimuli.hdf5#imgBrick", tmp_path / "b.h5", *common)
    assert again.returncode == 0
    assert "12" in again.stdout


@pytest.mark.parametrize("kind", ["npy", "h5", "mat", "mat 7.3"])
def test_numbers_have_the_axes_that_their_program_shows(tmp_path, kind):
    values = np.random.default_rng(1).normal(size=(7, 3))
    file = tmp_path / f"numbers.{kind.partition(' ')[0]}"
    if kind == "npy":
        np.save(file, values)
    elif kind == "h5":
        with h5py.File(file, "w") as h5:
            h5["x"] = values
    elif kind == "mat":
        scipy.io.savemat(file, {"x": values, "name": "text"}, do_compression=True)
    else:
        mat73(file, x=values)
    with open_array(file, lambda shape, _: len(shape) == 2, "numbers", SourceError) as found:
        assert found.shape == (7, 3)
        assert np.array_equal(found[2:5], values[2:5])
        assert np.array_equal(found.along_last(1), values[:, 1])


def test_a_table_of_stimuli_gives_rows_in_its_order(tmp_path, pixels):
    from PIL import Image

    names = ["zebra.png", "ant.png", "im10.png", "im2.png"]
    for name, image in zip(names, pixels, strict=False):
        Image.fromarray(image).save(tmp_path / name)
    lines = [f"{at}\t{name}\t1.5" for at, name in enumerate(names)]
    (tmp_path / "stimuli.tsv").write_text("\n".join(["onset\tstim_file\tduration", *lines]))
    source = open_source(tmp_path / "stimuli.tsv")
    assert [entry.path for entry in source.entries] == names
