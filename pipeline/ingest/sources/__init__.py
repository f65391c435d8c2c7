"""Where recordings come from: files, folders, standard input."""
