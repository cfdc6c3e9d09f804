"""Commands on the service's own machine; the only part of the service that may load torch."""
