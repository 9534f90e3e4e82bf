from __future__ import annotations

import numpy as np

from farm.face import points


def test_groups_name_every_kept_point_once() -> None:
    names = "FACE_OVAL LIPS_OUTER LIPS_INNER EYE_LEFT EYE_RIGHT BROW_LEFT BROW_RIGHT NOSE CHEEKS IRIS_LEFT IRIS_RIGHT"
    groups = [getattr(points, name) for name in names.split()]
    assert [index for group in groups for index in group] == list(range(points.K))
    assert len(set(points.KEPT)) == points.K
    assert max(points.KEPT) < points.ALL


def test_anchors_are_the_means_of_the_68_point_scheme() -> None:
    landmarks = np.random.RandomState(0).uniform(0, 100, (2, points.ALL, 3)).astype(np.float32)
    scheme = points.points68(landmarks)
    assert scheme.shape == (2, 68, 3)
    np.testing.assert_allclose(points.anchors(landmarks)[1, 2], scheme[1, 60:68, :2].mean(0), rtol=1e-6)
    np.testing.assert_allclose(points.anchors(landmarks)[0, 0], scheme[0, 36:42, :2].mean(0), rtol=1e-6)


def test_the_eye_networks_points_are_distinct_points_of_the_mesh() -> None:
    both = points.IRIS_EYE_LEFT + points.IRIS_EYE_RIGHT
    assert len(set(both)) == 142
    assert len(set(points.IBUG_68)) == 68
