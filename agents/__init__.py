if __name__ != "dnicomm.agents":
    raise ImportError("import dnicomm.agents (this folder is installed under that name)")
