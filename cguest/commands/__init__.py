"""One module for each noun; each registers its verbs and the coroutine that carries them out."""
