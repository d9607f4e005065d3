"""The programs of `python -m diffcompare`."""

import json

import numpy as np
import pytest
from PIL import Image

from diffcompare import learn
from diffcompare.commands import main

pytest.importorskip("tyro")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["--epochs", "12", "--hidden", "30", "--batch-size", "64"]
    assert main(["train", str(folder / "net.npz"), *arguments, "--log", str(folder / "log")]) == 0
    return folder


def test_a_picture_of_a_digit_is_classified(trained, tmp_path, capsys):
    """Lecture row 5: an image in, a class out, for pictures larger than those of the data."""
    data = learn.load("digits", seed=0)
    right = 0
    for image, label in zip(data.x_test[:30], data.y_test[:30], strict=True):
        pixels = np.uint8(255 - 255 * np.asarray(image).reshape(8, 8))
        Image.fromarray(pixels).resize((80, 80), Image.Resampling.NEAREST).save(tmp_path / "a.png")
        assert (
            main(["classify", str(tmp_path / "a.png"), "--params", str(trained / "net.npz")]) == 0
        )
        first, *scores = capsys.readouterr().out.splitlines()
        assert len(scores) == 10
        right += int(first) == int(label)
    assert right >= 24  # chance would read 3 of them; the network .95 of all test images


def test_training_logs_every_epoch(trained):
    records = [json.loads(line) for line in (trained / "log").read_text().splitlines()]
    assert len(records) == 12
    assert records[-1]["metrics"]["accuracy"] > 0.9


def test_missing_data_is_bad_usage(tmp_path, capsys):
    assert main(["classify", str(tmp_path / "no.png"), "--params", str(tmp_path / "no.npz")]) == 2
    assert "There is no" in capsys.readouterr().err
    arguments = ["--data", "mnist", "--path", str(tmp_path)]
    assert main(["train", str(tmp_path / "net.npz"), *arguments]) == 2
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "net.npz").exists()


def test_an_unknown_program_is_bad_usage(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["guess"])
    assert leaving.value.code == 2
    assert "classify" in capsys.readouterr().err


def test_training_in_several_processes_needs_their_number(tmp_path, capsys):
    assert main(["train", str(tmp_path / "net.npz"), "--coordinator", "localhost:1"]) == 2
    assert "--num-processes and --process-id too" in capsys.readouterr().err
