"""tasks: the stages of a release, one module each, and the nouns that they share."""
