"""Between the socket and the routes: gateway, guard, keys, limits, problems, event streams, files of the
UI."""
