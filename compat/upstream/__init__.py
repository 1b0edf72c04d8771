"""HTTP out: the kinds of upstreams, the connections to them, their model lists. The only place with requests and with sockets."""
