import numpy as np
import pytest
import torch
from pqd_numpy_runner import operators, pqd_runtimes
from torch.nn import functional as F

from pqd_core.testing import parametrize_with_checks


@parametrize_with_checks(pqd_runtimes())
def test_it_keeps_the_contract(check):
    check()


RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 2)])
def test_a_convolution_is_torchs(groups, stride, dilation):
    weight = RNG.normal(size=(8, 4 // groups, 3, 3)).astype(np.float32)
    expected = F.conv2d(torch.from_numpy(X), torch.from_numpy(weight), None, stride, (1, 2), dilation, groups)
    assert np.allclose(operators.conv2d(X, weight, None, stride, (1, 2), dilation, groups), expected, atol=1e-4)


def test_pools_are_torchs():
    x = torch.from_numpy(X)
    assert np.allclose(operators.max_pool2d(X, (3, 3), (2, 2), (1, 1)), F.max_pool2d(x, 3, 2, 1))
    assert np.allclose(operators.adaptive_avg_pool2d(X, (2, 4)), F.adaptive_avg_pool2d(x, (2, 4)), atol=1e-6)


def test_a_run_deploys_to_it(pqd_project):
    report = pqd_project.run(pqd_project.spec(runtimes=["numpy"], measure=["toy-accuracy"]))
    assert report.problems == []
    assert all(row.value("accuracy") > 0.5 for row in report.rows)
