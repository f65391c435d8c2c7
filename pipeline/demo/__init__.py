"""The shipped model, calls and references, and the demonstration that uses them."""
