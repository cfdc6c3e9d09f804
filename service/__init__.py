"""Records and HTTP: settings, database, routes, artifacts, client, command line. No torch."""
