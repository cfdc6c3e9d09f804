"""Files that data sets come in, one form a module; `catalog` names them all."""
