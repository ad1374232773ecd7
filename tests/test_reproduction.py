"""Claims about the reproduction score: equal tables score 1, reversed ones 0, and chance is told from difference."""

import pytest

from metrics.intervals import Interval
from metrics.reproduction import reproduction_score

PAPER = {
    ("+M2L2", "ctx"): {"fad": 0.34, "apa": 0.88},
    ("+DiT", "ctx"): {"fad": 0.31, "apa": 0.99},
    ("C-DiT", "ctx"): {"fad": 0.36, "apa": 0.67},
    ("+M2L2", "uncond"): {"fad": 0.36},
    ("+DiT", "uncond"): {"fad": 0.35},
}
ARMS = ("+M2L2", "+DiT", "C-DiT")


@pytest.fixture
def ours():
    """A table of our scores, each as wide as told on either side."""

    def build(cells, reach=0.0):
        return {
            row: {metric: Interval(value, value - reach, value + reach, reach / 2) for metric, value in cell.items()}
            for row, cell in cells.items()
        }

    return build


def test_the_same_table_scores_one_and_the_reversed_one_zero(ours):
    same = reproduction_score(PAPER, ours(PAPER), ARMS)
    assert same.share == 1.0 and len(same.orderings) == 3 + 3 + 1 and not same.different
    turned = {row: {metric: -value for metric, value in cell.items()} for row, cell in PAPER.items()}
    reversed_score = reproduction_score(PAPER, ours(turned), ARMS)
    assert reversed_score.share == 0.0 and reversed_score.different == reversed_score.orderings
    assert reversed_score.by_metric() == {"fad": 0.0, "apa": 0.0}


def test_only_order_counts(ours):
    cubed = {row: {metric: 5 + value**3 for metric, value in cell.items()} for row, cell in PAPER.items()}
    assert reproduction_score(PAPER, ours(cubed), ARMS).share == 1.0
    assert reproduction_score(PAPER, ours(PAPER), ARMS[::-1]).share == 1.0


def test_one_swap_is_listed_and_beyond_the_intervals_only_where_they_part(ours):
    swapped = PAPER | {("+DiT", "uncond"): {"fad": 0.40}}
    for reach, beyond in ((0.01, 1), (0.03, 0)):
        told = reproduction_score(PAPER, ours(swapped, reach), ARMS)
        assert told.share == pytest.approx(6 / 7)
        (only,) = told.different
        assert (only.metric, only.inputs, only.lower, only.higher) == ("fad", "uncond", "+DiT", "+M2L2")
        assert only.our_gap == pytest.approx(-0.04)
        assert len(told.beyond_intervals) == beyond


def test_a_tie_of_the_paper_is_no_ordering_and_a_tie_of_ours_does_not_have_the_papers(ours):
    tied = PAPER | {("+DiT", "uncond"): {"fad": 0.36}}
    of_paper = reproduction_score(tied, ours(PAPER), ARMS)
    assert (of_paper.share, of_paper.ties, len(of_paper.orderings)) == (1.0, 1, 6)
    of_ours = reproduction_score(PAPER, ours(tied), ARMS)
    assert of_ours.share == pytest.approx(6 / 7) and of_ours.beyond_intervals == ()


def test_what_ours_has_not_scored_is_counted_apart(ours):
    partly = {row: cell for row, cell in PAPER.items() if row[1] == "ctx"}
    told = reproduction_score(PAPER, ours(partly), ARMS)
    assert (told.share, told.missing, len(told.orderings)) == (1.0, 1, 6)
    with pytest.raises(ValueError, match="nothing to compare"):
        reproduction_score(PAPER, {}, ARMS)


def test_arms_meet_only_under_one_conditioning(ours):
    apart = {("a", "ctx"): {"fad": 1.0}, ("b", "uncond"): {"fad": 2.0}}
    with pytest.raises(ValueError, match="nothing to compare"):
        reproduction_score(apart, ours(apart), ("a", "b"))
