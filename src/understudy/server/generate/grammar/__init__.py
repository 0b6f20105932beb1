"""Languages of text: regular expressions and grammars as one kind of tree, written by chance and matched in bounded time."""
