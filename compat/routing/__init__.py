"""Which deployment serves a call: names, routes, what upstreams offer, and the state of each."""
