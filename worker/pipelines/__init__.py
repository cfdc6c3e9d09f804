"""What a job of each kind does, step by step; `catalog` names them all."""
