if __name__ != "dnicomm.configs":
    raise ImportError("import dnicomm.configs (this folder is installed under that name)")
