import itertools

import pytest

from dnicomm.envs.traffic_roads import LEVELS, entries, routes

each_level = pytest.mark.parametrize("difficulty", LEVELS)


@each_level
def test_routes_lead_cell_by_cell_from_edge_to_edge(difficulty):
    level = LEVELS[difficulty]
    starts, last = entries(level), level.size - 1
    everywhere = set()
    for (start, heading), paths in zip(starts, routes(level), strict=True):
        for path in paths:
            assert path[0] == start
            assert (path[1][0] - start[0], path[1][1] - start[1]) == heading
            steps = [abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in itertools.pairwise(path)]
            assert set(steps) == {1}
            assert all(0 <= place <= last for cell in path for place in cell)
            assert len(set(path)) == len(path)
            on_edge = [cell for cell in path if {0, last} & set(cell)]
            assert on_edge == [path[0], path[-1]]
            everywhere |= set(path)
        exits = [path[-1] for path in paths]
        assert len(set(exits)) == len(exits)
        if level.two_way:  # to every exit but the one beside the entry
            beside = [abs(e[0] - start[0]) + abs(e[1] - start[1]) == 1 for e in exits]
            assert not any(beside)
            assert len(exits) == len(starts) - 1
    lanes = [first + lane for first in level.roads for lane in range(1 + level.two_way)]
    on_lanes = itertools.product(range(last + 1), lanes)
    assert everywhere == {cell for i, lane in on_lanes for cell in ((i, lane), (lane, i))}


@each_level
def test_a_lane_goes_one_way(difficulty):
    """Outside junctions everybody leaves a cell in the same direction."""
    level = LEVELS[difficulty]
    lanes = {first + lane for first in level.roads for lane in range(1 + level.two_way)}
    ways = {}
    for path in itertools.chain(*routes(level)):
        for here, ahead in itertools.pairwise(path):
            if not {*here} <= lanes:
                ways.setdefault(here, set()).add((ahead[0] - here[0], ahead[1] - here[1]))
    assert {len(found) for found in ways.values()} == {1}


def test_straight_right_and_left():
    straight, right, left = routes(LEVELS["medium"])[0]
    approach = tuple((row, 6) for row in range(6))
    assert straight == tuple((row, 6) for row in range(14))
    assert right == (*approach, *((6, column) for column in range(6, -1, -1)))
    assert left == (*approach, (6, 6), *((7, column) for column in range(6, 14)))
