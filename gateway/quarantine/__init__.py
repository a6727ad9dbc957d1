"""What the quarantine has to do with other mail: how a withheld message goes on when it is released, and digests."""
