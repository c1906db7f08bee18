"""Images in memory or in files, and the tensors that a network sees of them."""
