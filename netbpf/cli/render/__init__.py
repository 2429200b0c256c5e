"""How each command's values look, as text for people and as JSON for scripts."""
