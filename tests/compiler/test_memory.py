"""Values that are alive at the same time never share memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zoo.compiler.memory import ALIGNMENT, Lifetime, place

lifetimes = st.lists(
    st.builds(
        lambda size, first, length: Lifetime(size, first, first + length),
        st.integers(0, 1000),
        st.integers(0, 12),
        st.integers(0, 5),
    ),
    max_size=12,
)


@given(lifetimes)
def test_no_two_meet(all_lifetimes: list[Lifetime]) -> None:
    offsets, total = place(all_lifetimes)
    placed = list(zip(all_lifetimes, offsets, strict=True))
    for i, (one, start) in enumerate(placed):
        assert start % ALIGNMENT == 0
        assert start + one.size <= total
        for other, begin in placed[i + 1 :]:
            if one.first <= other.last and other.first <= one.last:
                assert start + one.size <= begin or begin + other.size <= start


def test_a_chain_needs_two_places() -> None:
    chain = [Lifetime(640, i, i + 1) for i in range(10)]
    assert place(chain)[1] == 2 * 640
