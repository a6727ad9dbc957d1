"""How contracts and accounts end: the fence, the keys, what is removed, the search for remains."""
