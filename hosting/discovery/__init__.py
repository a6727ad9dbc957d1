"""How clients find their server by themselves: documents for each kind of client, and the routes that serve them.

What is answered depends on the domain only: no address is ever looked up, so nobody learns here which ones exist.
"""
