"""The nouns, one a file. Import them from their files."""
