"""Measurements: recordings with references, and what the system makes of them."""
