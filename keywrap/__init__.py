"""The key provider protocol of encrypted images: packets, keys and answers, without I/O."""
