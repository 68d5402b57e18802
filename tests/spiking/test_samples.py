import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from aleator.spiking.samples import brightened, class_indices, class_names, grey_levels


def test_integers_and_floats_of_the_same_image_give_the_same_grey_levels():
    integers = np.arange(0, 256, 5, dtype=np.uint8).reshape(2, 2, 13)
    expected = integers.reshape(2, 26).astype(float)
    np.testing.assert_array_equal(grey_levels(integers, 26), expected)
    np.testing.assert_array_equal(grey_levels(torch.from_numpy(integers), 26), expected)
    np.testing.assert_allclose(grey_levels(expected / 255, 26), expected, atol=1e-12)


def test_a_float_that_is_above_one_by_rounding_is_white():
    scaled = np.array([[0.5, np.nextafter(1, 2)]])  # what scikit-learn's MinMaxScaler may give
    np.testing.assert_array_equal(grey_levels(scaled, 2), [[127.5, 255]])


def test_a_mean_grey_scales_every_image_and_cuts_at_255():
    images = np.array([[10, 20, 30, 0], [0, 0, 0, 0], [0, 0, 0, 4]], dtype=np.uint8)
    levels = brightened(grey_levels(images, 4), 30.0)
    np.testing.assert_allclose(levels, [[20, 40, 60, 0], [0, 0, 0, 0], [0, 0, 0, 120]])
    assert brightened(np.array([[0.0] * 15 + [200]]), 30.0).max() == 255


@pytest.mark.plain
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 5)), r"images must be samples of 4 pixels, got the shape \(2, 5\)"),
        (np.zeros(4), r"images must be samples of 4 pixels, got the shape \(4,\)"),
        (np.full((1, 4), 16.0), "images must be integers in 0..255 or floats in 0..1, got floats from 16.0 to 16.0"),
        (np.full((1, 4), -0.1), "got floats from -0.1 to -0.1"),
        (np.full((1, 4), 256), "images must be integers in 0..255 or floats in 0..1, got integers from 256 to 256"),
        (np.full((1, 4), -1), "got integers from -1 to -1"),
        (np.array([[0.0, np.nan, 0, 0]]), "images must be finite, got NaN or infinity"),
        (np.zeros((1, 4), complex), "got complex128"),
        (csr_matrix(np.eye(4)), r"images must be dense, got a sparse csr_matrix: use toarray\(\)"),
    ],
    ids=[
        "pixels",
        "one-image",
        "floats-high",
        "floats-low",
        "integers-high",
        "integers-low",
        "nan",
        "complex",
        "sparse",
    ],
)
def test_images_that_are_none_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        grey_levels(images, 4)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], r"labels must be one per image, 3, got the shape \(2,\)"),
        ([0.0, 1.0, 2.0], r"labels must be integers in \[0, 3\), got float64"),
        ([0, 1, 3], r"labels must be integers in \[0, 3\), got 3"),
        ([0, -1, 1], r"labels must be integers in \[0, 3\), got -1"),
        (["a", "b", "a"], "labels must be 3 different strings, as n_classes, got 2"),
        (None, "labels must be one per image: this requires y to be passed, but the target y is None"),
    ],
    ids=["few", "floats", "high", "negative", "strings", "none"],
)
def test_labels_that_are_no_classes_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        class_indices(labels, 3, class_names(labels, 3))


def test_labels_that_are_strings_are_places_among_the_sorted_classes():
    labels = ["seven", "one", "two", "one"]
    classes = class_names(labels, 3)
    assert classes.tolist() == ["one", "seven", "two"]
    assert class_indices(np.array(labels, object), 4, classes).tolist() == [1, 0, 2, 0]
    with pytest.raises(ValueError, match="labels must be of one, seven, two, got nine"):
        class_indices(["one", "nine"], 2, classes)
    with pytest.raises(ValueError, match="labels must be of one, seven, two, got int64"):
        class_indices([0, 1], 2, classes)
