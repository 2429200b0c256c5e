"""BPF Type Format: what types the maps, variables and functions of an object have."""
