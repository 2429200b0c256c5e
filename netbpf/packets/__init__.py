"""Packets in, verdicts out: single packets, captures and tables of cases through a program, without a network."""
