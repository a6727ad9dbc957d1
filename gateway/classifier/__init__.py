"""The content classifier: what a message's octets say about whether it is spam.

`features` turns a message into hashed n-grams, `model` holds the shared model's weights (learned from corpora that the
operator names, `trainer`), `correction` is what the people of one tenant taught on top of it. Scores are logits: above
0 spam is the likelier.
"""
