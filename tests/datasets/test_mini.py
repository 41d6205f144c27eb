import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from jaxopt_tut.datasets import load_fashion_mnist_mini, mini, verify_normalization


def test_has_the_promised_shapes_and_as_many_images_of_each_class():
    dataset = load_fashion_mnist_mini()
    for split, num_per_class in ((dataset.train, 600), (dataset.test, 100)):
        assert split.images.shape == (10 * num_per_class, 28, 28)
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int32)
        assert np.bincount(split.labels).tolist() == [num_per_class] * 10
    assert type(dataset.mean) is type(dataset.std) is float


def test_mean_is_that_of_the_full_set_up_to_sampling():
    dataset = load_fashion_mnist_mini()
    of_images = dataset.train.images.mean(axis=(1, 2)) / 255
    # The mean of 60 000 images, known; the subset is a sample of 6 000 of them.
    assert abs(dataset.mean - 0.286041) < 4 * of_images.std() / np.sqrt(len(of_images))


@pytest.mark.parametrize("start", [0, 1024, 2048])
def test_batches_are_normalised(start):
    dataset = load_fashion_mnist_mini()
    batch = dataset.train.images[start : start + 1024]
    assert verify_normalization(batch, dataset.mean, dataset.std).ok


def test_file_is_small_and_needs_no_pickles():
    packed = mini.FILE.read_bytes()
    assert len(packed) <= 3.2e6
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                assert np.lib.format.read_magic(member) == (1, 0)
                _, _, dtype = np.lib.format.read_array_header_1_0(member)
                assert dtype == np.uint8


def test_refuses_a_damaged_file(tmp_path, monkeypatch):
    packed = bytearray(mini.FILE.read_bytes())
    packed[1_000_000] ^= 1
    (tmp_path / "damaged.npz").write_bytes(packed)
    monkeypatch.setattr(mini, "FILE", tmp_path / "damaged.npz")
    sentence = rf"^load_fashion_mnist_mini needs the bundled file with SHA-256 {mini.SHA256}, got "
    with pytest.raises(ValueError, match=sentence):
        load_fashion_mnist_mini()


def test_notice_lies_beside_the_file():
    notice = (mini.FILE.parent / "NOTICE").read_text()
    assert mini.FILE.name in notice
    assert "Copyright (c) 2017 Zalando SE" in notice


def test_loading_starts_no_backend():
    # Settings of the backend, as of multi-process runs, are refused once it has started.
    code = (
        "import jax; from jaxopt_tut.datasets import load_fashion_mnist_mini; "
        "load_fashion_mnist_mini(); jax.config.update('jax_num_cpu_devices', 2); "
        "assert len(jax.devices('cpu')) == 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
