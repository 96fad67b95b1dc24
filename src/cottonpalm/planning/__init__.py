"""What a run would ask, cost and take, found out before it is made."""
