"""The pytest plugin: fixtures and options. Imports nothing but pytest and the standard library."""
