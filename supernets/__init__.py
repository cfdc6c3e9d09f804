"""Networks and search: spaces, elastic supernets, training, accuracy, search, export."""
