"""Data sets of images: their files, and how an image becomes what a network sees."""
