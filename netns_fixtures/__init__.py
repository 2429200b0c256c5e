"""Pytest fixtures for XDP and TC programs: namespaces, veth pairs, traffic. See netns_fixtures.plugin.

The parts work without pytest too: Topology, End and Wire (topology), Capture (capture), Changes (counters).
"""
