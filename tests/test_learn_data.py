"""The digits in the package, the reader of MNIST, and the two-dimensional classes."""

import gzip
import hashlib
import importlib.resources
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffcompare import learn
from diffcompare.learn import data, formats, mnist

MNIST = pathlib.Path(__file__).parents[2] / "shared" / "data" / "mnist"
needs_mnist = pytest.mark.skipif(not MNIST.is_dir(), reason=f"MNIST is not at {MNIST}")
PER_CLASS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.fixture(autouse=True)
def _only_places_of_the_test(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(pathlib.Path, "home", lambda: home)
    monkeypatch.chdir(home)
    for name in ("DIFFCOMPARE_DATA", "KERAS_HOME", "SCIKIT_LEARN_DATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def small():
    """A data set like MNIST, with 9 training and 4 test images of 3 x 3 pixels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (13, 3, 3), np.uint8)
    labels = rng.integers(0, 10, 13, np.uint8)
    return images[:9], labels[:9], images[9:], labels[9:]


def _write_idx(folder, arrays, *, compress=False):
    folder.mkdir(parents=True, exist_ok=True)
    # Names that say nothing: files are known by their content.
    for name, array in zip("dcba", arrays, strict=True):
        magic = {1: 2049, 3: 2051}[array.ndim]
        header = np.array([magic, *array.shape], ">u4").tobytes()
        content = header + array.tobytes()
        (folder / name).write_bytes(gzip.compress(content) if compress else content)
    return folder


def _write_npz(folder, arrays):
    names = ("x_train", "y_train", "x_test", "y_test")
    np.savez(folder / "data.npz", **dict(zip(names, arrays, strict=True)))
    return folder / "data.npz"


def _write_csv(folder, arrays, *, header=None, label_last=False):
    for name, images, labels in (("one", *arrays[:2]), ("two", *arrays[2:])):
        columns = [labels[:, None], images.reshape(len(images), -1)]
        table = np.concatenate(columns[::-1] if label_last else columns, axis=1)
        lines = [",".join(map(str, row)) for row in table.tolist()]
        (folder / name).write_text("\n".join([header, *lines] if header else lines) + "\n")
    return folder


def _assert_holds(dataset, arrays):
    x_train, y_train, x_test, y_test = arrays
    for got, expected in ((dataset.x_train, x_train), (dataset.x_test, x_test)):
        assert got.dtype == jnp.float32
        expected = expected.reshape(len(expected), -1).astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(got, expected)
    for got, expected in ((dataset.y_train, y_train), (dataset.y_test, y_test)):
        assert got.dtype == jnp.int32
        np.testing.assert_array_equal(got, expected)
    assert dataset.image_shape == x_train.shape[1:]


# The digits.


def test_the_digits_are_those_of_uci():
    images, labels, _ = data.read_digits()
    assert images.shape == (1797, 8, 8)
    assert images.sum(dtype=int) == 561_718
    assert np.bincount(labels).tolist() == PER_CLASS
    assert (images.min(), images.max()) == (0, 16)


def test_the_digits_are_small_and_come_with_their_licence():
    folder = importlib.resources.files("diffcompare.learn")
    assert len((folder / "digits.npz").read_bytes()) < 50_000
    licence = (folder / "digits.LICENSE.txt").read_text()
    assert "CC BY 4.0" in licence
    assert "Alpaydin" in licence


def test_the_digits_are_flat_scaled_and_split_into_three_quarters_and_one():
    dataset = learn.load()
    assert (dataset.name, dataset.image_shape) == ("digits", (8, 8))
    assert dataset.x_train.dtype == jnp.float32
    assert dataset.y_train.dtype == jnp.int32
    assert dataset.x_train.shape == (1347, 64)
    assert dataset.x_test.shape == (450, 64)
    assert (float(dataset.x_train.min()), float(dataset.x_train.max())) == (0.0, 1.0)
    total = float(dataset.x_train.sum() + dataset.x_test.sum()) * 16
    assert total == 561_718  # sixteenths are exact in float32 up to 2^20
    for label, count in enumerate(PER_CLASS):
        assert int((dataset.y_test == label).sum()) == round(count / 4)
        assert int((dataset.y_train == label).sum()) == count - round(count / 4)


def test_no_digit_is_both_for_training_and_for_testing():
    is_test = data._stratified(data.read_digits()[1], seed=3)
    dataset = learn.load("digits", seed=3)
    assert is_test.sum() == len(dataset.y_test)
    assert (~is_test).sum() == len(dataset.y_train)


def test_the_split_depends_on_the_seed_alone():
    one, same, other = (learn.load("digits", seed=seed) for seed in (0, 0, 1))
    assert (one.x_test == same.x_test).all()
    assert not (one.x_test == other.x_test).all()
    with jax.enable_x64(False):
        narrow = learn.load("digits", seed=0)
    assert (one.x_test == narrow.x_test).all()


def test_altered_digits_are_refused(monkeypatch):
    monkeypatch.setattr(data, "DIGITS_SHA256", "0" * 64)
    with pytest.raises(learn.DataError, match=r"must have sha256 0000.*Install diffcompare again"):
        learn.load("digits")


def test_digits_have_no_path(tmp_path):
    with pytest.raises(ValueError, match="digits come with the package"):
        learn.load("digits", path=tmp_path)


# The formats.


@pytest.mark.parametrize("compress", [False, True])
def test_idx_files_are_read(tmp_path, small, compress):
    folder = _write_idx(tmp_path / "set", small, compress=compress)
    dataset = learn.load(folder, verify=False)
    _assert_holds(dataset, small)
    assert dataset.name == "set"


def test_a_keras_npz_is_read(tmp_path, small):
    _assert_holds(learn.load(_write_npz(tmp_path, small), verify=False), small)


@pytest.mark.parametrize(
    ("header", "label_last"),
    [
        (None, False),
        ("label," + ",".join(f"pixel{i}" for i in range(9)), False),
        (",".join(f'"pixel{i}"' for i in range(9)) + ',"class"', True),
    ],
)
def test_csv_files_are_read(tmp_path, small, header, label_last):
    folder = _write_csv(tmp_path, small, header=header, label_last=label_last)
    _assert_holds(learn.load(folder, verify=False), small)


def test_an_arff_file_is_read(tmp_path, small):
    images, labels = small[:2]
    attributes = [f"@ATTRIBUTE pixel{i} real" for i in range(9)]
    rows = [
        ",".join(map(str, [*image.ravel().tolist(), f"'{label}'"]))
        for image, label in zip(images, labels, strict=True)
    ]
    lines = ["% a comment", "@RELATION mnist_784", *attributes, "@ATTRIBUTE class {0,1}", "@DATA"]
    path = tmp_path / "set"
    path.write_bytes(gzip.compress("\n".join([*lines, *rows]).encode()))
    got_images, got_labels = formats.read(path)
    np.testing.assert_array_equal(got_images, images)
    np.testing.assert_array_equal(got_labels, labels)


def test_every_format_of_one_data_set_has_one_checksum(tmp_path, small):
    for name in ("plain", "zipped", "npz", "csv"):
        (tmp_path / name).mkdir()
    _write_npz(tmp_path / "npz", small)
    sums = {
        learn.load(folder, verify=False).sha256
        for folder in (
            _write_idx(tmp_path / "plain", small),
            _write_idx(tmp_path / "zipped", small, compress=True),
            tmp_path / "npz",
            _write_csv(tmp_path / "csv", small),
        )
    }
    plain = [(tmp_path / "plain" / name).read_bytes() for name in "dcba"]
    assert sums == {hashlib.sha256(b"".join(plain)).hexdigest()}


def test_files_of_other_formats_beside_the_data_are_passed_over(tmp_path, small):
    folder = _write_idx(tmp_path / "set", small)
    (folder / "README.md").write_text("hello, this, is, not, data\n")
    (folder / "table.csv").write_text("a,b,c,d,e\n1,2,3,4,5\n")
    (folder / "empty").write_bytes(b"")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
    _assert_holds(learn.load(folder, verify=False), small)


# What can be wrong with files.


@pytest.mark.parametrize("compress", [False, True])
def test_a_truncated_idx_file_is_refused(tmp_path, small, compress):
    folder = _write_idx(tmp_path / "set", small, compress=compress)
    content = (folder / "d").read_bytes()
    (folder / "d").write_bytes(content[:-10])
    needed = r"truncated.*[Cc]opy it again"
    with pytest.raises(learn.DataError, match=needed):
        learn.load(folder, verify=False)


def test_an_idx_file_that_is_too_long_is_refused(tmp_path, small):
    folder = _write_idx(tmp_path / "set", small)
    with (folder / "d").open("ab") as file:
        file.write(b"more")
    with pytest.raises(learn.DataError, match=r"needs 97 uncompressed bytes, but it holds 101"):
        learn.load(folder, verify=False)


def test_a_file_with_a_wrong_magic_number_is_refused(tmp_path, small):
    folder = _write_idx(tmp_path / "set", small)
    content = (folder / "d").read_bytes()
    (folder / "d").write_bytes(b"\x00\x00\x0d" + content[3:])
    with pytest.raises(learn.DataError, match=r"starts with the bytes 00 00 0d 03.*Needed is"):
        learn.load(folder / "d")
    with pytest.raises(learn.DataNotFoundError, match=r"d starts with the bytes 00 00 0d 03"):
        learn.load(folder, verify=False)


def test_a_truncated_npz_is_refused(tmp_path, small):
    path = _write_npz(tmp_path, small)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(learn.DataError, match=r"zip file without its end.*copy it again"):
        learn.load(path, verify=False)


def test_an_npz_without_the_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(learn.DataError, match="zip file without the arrays y_train, x_test"):
        learn.load(tmp_path / "a.npz")


def test_an_npz_with_pickled_objects_is_never_unpickled(tmp_path, small):
    pickled = np.array([{"a": 1}] * 9, dtype=object)
    path = _write_npz(tmp_path, (small[0], pickled, *small[2:]))
    with pytest.raises(learn.DataError, match="allow_pickle=False"):
        learn.load(path, verify=False)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_an_npz_with_something_else_than_bytes_is_refused(tmp_path, small, dtype):
    path = _write_npz(tmp_path, (small[0].astype(dtype) * 2, *small[1:]))
    with pytest.raises(learn.DataError, match=r"must be integers in 3|must lie in 0 to 255"):
        learn.load(path, verify=False)


@pytest.mark.parametrize("row", ["1,2,3", "1," * 9 + "x", "1," * 9 + "300", "-1," * 9 + "1"])
def test_a_csv_file_with_a_broken_row_is_refused(tmp_path, small, row):
    folder = _write_csv(tmp_path, small)
    with (folder / "one").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(learn.DataError, match="one is a CSV file of 10 columns, but it cannot"):
        learn.load(folder, verify=False)


def test_a_csv_file_without_rows_is_refused(tmp_path):
    (tmp_path / "set").write_text("label,1x1,1x2,2x1,2x2\n")
    with pytest.raises(learn.DataError, match="it holds no rows"):
        learn.load(tmp_path / "set", verify=False)


def test_a_wrong_checksum_is_refused(tmp_path, small, monkeypatch):
    monkeypatch.setattr(mnist, "SHAPES", tuple(array.shape for array in small))
    folder = _write_idx(tmp_path / "set", small)
    with pytest.raises(learn.DataError, match=r"wrong checksum.*sha256 ff7bcfd416de3373.*verify"):
        learn.load("mnist", path=folder)


def test_data_of_another_size_is_not_mnist(tmp_path, small):
    folder = _write_idx(tmp_path / "set", small)
    with pytest.raises(learn.DataNotFoundError, match=r"lacks the training images.*\(9, 3, 3\)"):
        learn.load("mnist", path=folder)


def test_sets_of_one_size_cannot_be_told_apart(tmp_path, small):
    folder = _write_idx(tmp_path / "set", (small[0][:4], small[1][:4], *small[2:]))
    with pytest.raises(learn.DataNotFoundError, match="the larger one for training"):
        learn.load(folder, verify=False)


# Where files are looked for.


def test_missing_data_names_every_place_and_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFCOMPARE_DATA", str(tmp_path / "named"))
    (tmp_path / "named").mkdir()
    with pytest.raises(learn.DataNotFoundError) as caught:
        learn.load("mnist")
    message = str(caught.value)
    for place in ("named", "MNIST/raw", ".keras/datasets/mnist.npz", "scikit_learn_data/openml"):
        assert place in message
    assert "pass path=FOLDER or set DIFFCOMPARE_DATA=FOLDER" in message


def test_data_errors_are_value_errors_and_missing_files_are_file_errors(tmp_path):
    assert issubclass(learn.DataError, ValueError)
    with pytest.raises(FileNotFoundError, match="is not there"):
        learn.load("mnist", path=tmp_path / "nothing")


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r'knows "digits", "mnist", and paths.*not \'minst\''):
        learn.load("minst")


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("DIFFCOMPARE_DATA", "."),
        ("DIFFCOMPARE_DATA", "MNIST/raw"),
        (None, "data/MNIST/raw"),
        ("KERAS_HOME", "datasets"),
        (None, ".keras/datasets"),
        ("SCIKIT_LEARN_DATA", "openml/openml.org/data/v1/download/52667"),
    ],
)
def test_the_usual_places_are_searched(tmp_path, monkeypatch, small, variable, folder):
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "root"))
    place = (tmp_path / "root" if variable else tmp_path / "home") / folder
    place.mkdir(parents=True)
    if place.name == "datasets":
        _write_npz(place, small).rename(place / "mnist.npz")
    else:
        _write_idx(place, small)
    _assert_holds(learn.load("mnist", verify=False), small)


def test_a_given_path_is_the_only_place(tmp_path, monkeypatch, small):
    monkeypatch.setenv("DIFFCOMPARE_DATA", str(_write_idx(tmp_path / "set", small)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(learn.DataNotFoundError, match="empty: holds no files"):
        learn.load("mnist", path=tmp_path / "empty", verify=False)


# MNIST itself.


@needs_mnist
def test_mnist_is_read_and_verified():
    dataset = learn.load("mnist", path=MNIST)
    assert (dataset.name, dataset.image_shape) == ("mnist", (28, 28))
    assert dataset.x_train.shape == (60000, 784)
    assert dataset.x_test.shape == (10000, 784)
    assert (float(dataset.x_train.min()), float(dataset.x_train.max())) == (0.0, 1.0)
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(dataset.y_train).tolist() == counts
    assert dataset.sha256 == mnist.ALL_SHA256


@needs_mnist
def test_one_altered_pixel_of_mnist_is_noticed(tmp_path):
    for file in sorted(MNIST.glob("t10k*.gz")):
        content = bytearray(gzip.decompress(file.read_bytes()))
        content[-1] ^= 1
        (tmp_path / file.name).write_bytes(content)
    with pytest.raises(learn.DataError, match=r"t10k.* has a wrong checksum"):
        learn.load("mnist", path=tmp_path)


@needs_mnist
def test_mnist_as_one_table_of_70000_rows_is_split(tmp_path):
    files = [next(MNIST.glob(f"{name}*.gz")) for name in ("train-i", "t10k-i", "train-l", "t10k-l")]
    train_x, test_x, train_y, test_y = (formats.read(file)[0] for file in files)
    images = np.concatenate([train_x, test_x])
    labels = np.concatenate([train_y, test_y])
    pieces = {
        str(array.ndim): mnist._Piece(tmp_path / "all", array, str(array.ndim))
        for array in (images, labels)
    }
    found, _ = mnist._verified(pieces)
    assert found.sha256 == mnist.ALL_SHA256
    images[65000] = 0
    with pytest.raises(learn.DataError, match="70,000 images, but they have a wrong checksum"):
        mnist._verified(pieces)


# Points in the plane.


@pytest.mark.parametrize("make", [learn.two_moons, learn.spiral, learn.rings, learn.xor])
def test_points_depend_on_the_key_alone(make):
    (x, y), (same, _), (other, _) = (make(jax.random.key(k), 200) for k in (0, 0, 1))
    assert x.shape == (200, 2)
    assert y.shape == (200,)
    assert y.dtype == jnp.int32
    assert set(y.tolist()) == {0, 1}
    assert (x == same).all()
    assert not (x == other).any()


@pytest.mark.parametrize("make", [learn.two_moons, learn.spiral, learn.rings, learn.xor])
@pytest.mark.parametrize(("points", "noise"), [(0, 0.1), (10, -0.1), (10, float("nan"))])
def test_points_need_a_number_and_a_spread(make, points, noise):
    with pytest.raises(ValueError, match=r"must be positive|cannot be negative"):
        make(jax.random.key(0), points, noise=noise)


def test_two_moons_are_half_circles_of_radius_1():
    x, y = learn.two_moons(jax.random.key(0), 100, noise=0.0)
    centers = jnp.where((y == 0)[:, None], jnp.array([[0.0, 0.0]]), jnp.array([[1.0, 0.5]]))
    # A sine and a cosine, their squares, and a root: a few ulp.
    np.testing.assert_allclose(jnp.linalg.norm(x - centers, axis=1), 1, rtol=1e-15)
    assert (x[y == 0, 1] >= 0).all()
    assert (x[y == 1, 1] <= 0.5).all()


def test_the_arms_of_a_spiral_are_one_arm_turned():
    x, y = learn.spiral(jax.random.key(0), 300, classes=3, noise=0.0)
    radius = jnp.linalg.norm(x, axis=1)
    assert float(radius.max()) <= 1
    turned = jnp.arctan2(x[:, 1], x[:, 0]) / (2 * jnp.pi) - 1.5 * radius - y.astype(x.dtype) / 3
    # Turns, of order 1, up to whole ones.
    np.testing.assert_allclose(turned, jnp.round(turned), rtol=0, atol=1e-14)
