"""What a program has gathered, carried over to its successor: maps, map entries and variables."""
