"""The 26 tools the model is taught to call: signatures, families, recording stubs."""
