"""Many calls at once, in real time, through the whole system on a broker and a store of its own: what it costs and how late words come."""
