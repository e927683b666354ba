"""What the commands do, one module a command; the command line itself is ``dnicomm.cli``."""
