"""Recordings of event cameras, real or simulated, and the frames that a network sees of them."""
