import hashlib

import numpy as np
import pytest

from jaxopt_tut.datasets import Split, draw_mini, load_fashion_mnist_mini, mini

NUM = 200
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM, 3, 3), np.uint8)
SPLIT = Split(IMAGES, np.arange(NUM, dtype=np.int32) % 10)


def test_draws_the_images_whose_digest_comes_first_in_the_order_of_the_original():
    drawn = draw_mini.draw(SPLIT, 4, seed=b"a")
    chosen = set()
    for label in range(10):
        digests = {
            hashlib.sha256(b"a" + bytes(IMAGES[i].ravel())).hexdigest(): i
            for i in range(label, NUM, 10)
        }
        chosen |= {digests[digest] for digest in sorted(digests)[:4]}
    order = sorted(chosen)
    np.testing.assert_array_equal(drawn.images, IMAGES[order])
    np.testing.assert_array_equal(drawn.labels, SPLIT.labels[order])


def test_another_seed_draws_other_images():
    first, other = (draw_mini.draw(SPLIT, 4, seed=seed) for seed in (b"a", b"b"))
    assert not np.array_equal(first.images, other.images)


def test_refuses_a_class_with_too_few_images():
    with pytest.raises(ValueError, match=r"^draw needs 21 images of class 0, got 20\.$"):
        draw_mini.draw(SPLIT, 21, seed=b"a")


def test_packed_bytes_are_the_same_every_time_and_unpack():
    first, again = (mini.pack(SPLIT, draw_mini.draw(SPLIT, 4, seed=b"a")) for _ in range(2))
    assert first == again
    train, test = mini.unpack(first)
    np.testing.assert_array_equal(train.images, IMAGES)
    np.testing.assert_array_equal(test.labels, draw_mini.draw(SPLIT, 4, seed=b"a").labels)


def test_the_script_writes_what_it_then_confirms(tmp_path, monkeypatch, capsys, full_directory):
    # The stand-in for the full set repeats the bundled images, so another subset is drawn from it.
    arguments = ["--directory", str(full_directory)]
    bundled = mini.FILE.read_bytes()
    file = tmp_path / "drawn.npz"
    file.write_bytes(bundled)
    monkeypatch.setattr(draw_mini, "FILE", file)
    assert draw_mini.main([*arguments, "--check"]) == 1
    assert "DOES NOT hold" in capsys.readouterr().out
    assert file.read_bytes() == bundled
    assert draw_mini.main(arguments) == 0
    assert hashlib.sha256(file.read_bytes()).hexdigest() in capsys.readouterr().out
    assert draw_mini.main([*arguments, "--check"]) == 0
    train, test = mini.unpack(file.read_bytes())
    assert np.bincount(train.labels).tolist() == [600] * 10
    originals = {image.tobytes() for image in load_fashion_mnist_mini().test.images}
    assert {image.tobytes() for image in test.images} <= originals
