"""The request level: one model request, its tries, its permit and its money; of rows it knows a name tag."""
