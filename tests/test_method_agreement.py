"""Whether methods say the same of a difference: badges from intervals."""

import numpy as np
import pytest
import xarray as xr

from fcx.core.errors import ContractError
from fcx.statistics.method_agreement import AGREES, CONTRADICTED, MIXED, agreement_of_methods

# Intervals of three methods, and the badge that they make.
CASES = {
    "all above": ([(0.1, 0.3), (0.2, 0.9), (0.01, 5)], AGREES),
    "all below": ([(-0.3, -0.1), (-0.9, -0.2), (-np.inf, -0.01)], AGREES),
    "two signs": ([(0.1, 0.3), (-0.9, -0.2), (-0.1, 0.1)], CONTRADICTED),
    "one holds 0": ([(0.1, 0.3), (0.2, 0.9), (-0.1, 0.2)], MIXED),
    "one touches 0": ([(0.1, 0.3), (0.2, 0.9), (0.0, 0.2)], MIXED),
    "all hold 0": ([(-0.1, 0.3)] * 3, MIXED),
    "one is not known": ([(0.1, 0.3), (0.2, 0.9), (np.nan, np.nan)], MIXED),
}


def comparisons(signs=1):
    ends = np.array([intervals for intervals, _ in CASES.values()]) * signs  # (comparison, method, end)
    ends = np.sort(ends, axis=-1)
    names = ["a", "b", "c"]
    return xr.Dataset({end: (("comparison", "method"), ends[..., at]) for at, end in enumerate(("low", "high"))},
                      {"method": names})  # fmt: skip


@pytest.mark.parametrize("signs", [1, -1])
def test_a_badge_follows_the_intervals_whichever_way_a_difference_is_taken(signs):
    badges = agreement_of_methods(comparisons(signs)).values.tolist()
    assert dict(zip(CASES, badges, strict=True)) == {name: badge for name, (_, badge) in CASES.items()}


def test_the_order_of_methods_plays_no_part_and_one_method_agrees_with_itself():
    given = comparisons()
    turned = given.isel(method=[2, 0, 1])
    np.testing.assert_array_equal(agreement_of_methods(turned), agreement_of_methods(given))
    alone = agreement_of_methods(given.isel(method=[2])).values.tolist()
    assert alone == [AGREES, AGREES, MIXED, MIXED, MIXED, MIXED, MIXED]


def test_comparisons_without_methods_are_refused():
    with pytest.raises(ContractError, match="no dimension 'method'"):
        agreement_of_methods(comparisons().isel(method=0))
