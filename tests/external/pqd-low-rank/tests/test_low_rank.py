import pytest
import torch
from pqd_low_rank import pqd_stages
from pqd_low_rank.pairs import factorized, rank_of
from torch import nn

from pqd_core.testing import parametrize_with_checks


@parametrize_with_checks(pqd_stages())
def test_it_keeps_the_contract(check):
    check()


@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "bias": False}])
def test_at_full_rank_the_pair_is_the_layer(settings):
    torch.manual_seed(0)
    layer, images = nn.Conv2d(3, 8, 3, **settings), torch.randn(2, 3, 9, 9)
    assert torch.allclose(factorized(layer, rank_of(layer, 1.0))(images), layer(images), atol=1e-5)


def test_pruning_is_declared_to_end(pqd_host):
    record = pqd_host.registry("stage").find("low-rank").record
    assert record.after(frozenset({"trainable", "plain-modules", "sparse"})) == {
        "trainable",
        "plain-modules",
        "low-rank",
    }
