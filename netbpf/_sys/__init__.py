"""The boundary to the kernel: the only place with ctypes. Nothing here decides policy."""
