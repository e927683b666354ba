"""How fast everything is, beside backpropagation, beside a plain loop and beside its floor."""
