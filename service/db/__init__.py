"""Tables of the database, and all SQL."""
