"""The speed suite: our daemon compared with the usual alternatives, in one run."""
