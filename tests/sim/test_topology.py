"""Who sends to whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnicomm.errors import UserError
from dnicomm.sim.topology import (
    Chain,
    Complete,
    EdgeList,
    Ring,
    Star,
    check_edges,
    edge_name,
)


def names(count):
    return [f"agent_{i}" for i in range(count)]


A, B, C, D = "abcd"


def test_a_chain():
    assert Chain().edges([A, B, C]) == [(A, B), (B, C)]
    assert Chain(both=True).edges([A, B, C]) == [(A, B), (B, C), (B, A), (C, B)]
    assert Chain().edges([A]) == []


def test_a_ring():
    assert Ring().edges([A, B, C]) == [(A, B), (B, C), (C, A)]
    assert set(Ring(both=True).edges([A, B, C])) == set(Complete().edges([A, B, C]))
    # two make no longer way round
    assert Ring().edges([A, B]) == [(A, B), (B, A)] == Ring(both=True).edges([A, B])
    assert Ring().edges([A]) == Ring(both=True).edges([A]) == []


def test_a_star():
    assert Star().edges([A, B, C]) == [(B, A), (C, A), (A, B), (A, C)]
    assert Star(centre=C).edges([A, B, C]) == [(A, C), (B, C), (C, A), (C, B)]
    with pytest.raises(UserError, match=r"topology\.centre=x.*Known: a, b"):
        Star(centre="x").edges([A, B])


@given(st.integers(0, 7))
def test_counts(n):
    agents = names(n)
    assert len(Complete().edges(agents)) == n * (n - 1)
    if n:
        assert len(Star().edges(agents)) == 2 * (n - 1)
        assert len(Chain(both=True).edges(agents)) == 2 * (n - 1)
    if n > 2:
        assert len(Ring().edges(agents)) == n
        assert len(Ring(both=True).edges(agents)) == 2 * n


@given(st.integers(1, 7), st.booleans())
def test_all_of_them_pass_the_check(n, both):
    agents = names(n)
    for topology in (Chain(both), Ring(both), Star(), Complete()):
        edges = topology.edges(agents)
        assert check_edges(edges, agents) == edges


def test_one_agent_more_at_the_end_keeps_the_others_edges():
    for topology in (Chain(), Star(), Complete()):
        assert set(topology.edges(names(3))) <= set(topology.edges(names(4)))


def test_edges_one_by_one():
    assert EdgeList([[A, B], (B, C)]).edges([A, B, C]) == [(A, B), (B, C)]
    assert EdgeList([]).edges([A]) == []
    once = EdgeList(iter([(A, B)]))  # may be asked more than once
    assert once.edges([A, B]) == once.edges([A, B]) == [(A, B)]


@pytest.mark.parametrize("edges", ["ab", [[A]], [[A, B, C]], [A], 7, [7], ["ab"]])
def test_what_is_no_edge_is_refused(edges):
    with pytest.raises(UserError, match=r"topology\.edges.*sender, receiver"):
        EdgeList(edges)


@pytest.mark.needs("networkx")
def test_a_directed_graph():
    import networkx as nx

    graph = nx.DiGraph([(B, A), (A, C)])
    assert set(EdgeList(graph).edges([A, B, C])) == {(B, A), (A, C)}


@pytest.mark.needs("networkx")
def test_an_undirected_graph_goes_both_ways():
    import networkx as nx

    graph = nx.path_graph([A, B, C])
    edges = EdgeList(graph).edges([A, B, C])
    assert set(edges) == {(A, B), (B, A), (B, C), (C, B)}
    assert len(edges) == 4
    agents = names(6)
    random = nx.relabel_nodes(nx.gnp_random_graph(6, 0.5, seed=1), dict(enumerate(agents)))
    edges = EdgeList(random).edges(agents)
    assert len(check_edges(edges, agents)) == 2 * random.number_of_edges()


@pytest.mark.needs("networkx")
def test_a_graph_of_numbers_names_no_agents():
    """A message, and no error of another kind: nodes are agents' names."""
    import networkx as nx

    edges = EdgeList(nx.path_graph(3)).edges(names(3))
    with pytest.raises(UserError, match="there is no agent '0'"):
        check_edges(edges, names(3))


def test_edges_are_checked():
    agents = ["alice", "bob"]
    assert check_edges([("alice", "bob")], agents) == [("alice", "bob")]
    with pytest.raises(UserError, match=r"no agent 'bobb'\. Did you mean 'bob'\?"):
        check_edges([("alice", "bobb")], agents)
    with pytest.raises(UserError, match="channel to itself"):
        check_edges([("bob", "bob")], agents)
    with pytest.raises(UserError, match="alice -> bob is there twice"):
        check_edges([("alice", "bob"), ("bob", "alice"), ("alice", "bob")], agents)


def test_the_name_of_a_channel():
    assert edge_name("alice", "bob") == "alice->bob"
