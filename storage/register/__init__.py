"""What is stored, declared beside its definition: the data register, from which periods and erasure are computed."""
