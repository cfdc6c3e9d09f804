"""Places that a delivered network can be handed to. One module each; `catalog` lists them."""
