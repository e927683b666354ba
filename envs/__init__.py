if __name__ != "dnicomm.envs":
    raise ImportError("import dnicomm.envs (this folder is installed under that name)")
