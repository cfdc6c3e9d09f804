"""The files that latency tables come in and go out as; `catalog` names them all."""
