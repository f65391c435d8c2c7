"""``callscribe bench policy``: what the commit policies cost in words, seconds and processor time."""
