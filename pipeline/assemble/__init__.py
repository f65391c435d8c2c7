"""Assembly: words and turns become closed, ordered segments."""
