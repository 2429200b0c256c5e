"""Pytest fixtures for XDP and TC programs: namespaces, veth pairs, traffic. See netns_fixtures.plugin."""
